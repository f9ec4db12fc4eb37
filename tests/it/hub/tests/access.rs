//! That only those who may are answered: tokens, their rights, and the App.

use super::*;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};

fn now() -> i64 {
    crate::harness::now()
}

/// A token that the App signs for itself.
fn sign(app: &App, claims: &Value) -> String {
    let text: String = app.private_key.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = KeyPair::from_der(&STANDARD.decode(text).unwrap()).unwrap();
    let head = URL_SAFE_NO_PAD.encode(json!({ "alg": "RS256", "typ": "JWT" }).to_string());
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn without_a_known_token_it_is_401() {
    let hub = Hub::start();
    hub.repository("acme/web");
    let mut asking = Asking::of(&hub);
    assert_eq!(asking.get(HOOKS).status, 200);
    hub.revoke(&asking.token);
    let said = |asking: &Asking, path: &str| {
        let answer = asking.get(path);
        (answer.status, answer.body["message"].as_str().unwrap().to_owned())
    };
    assert_eq!(said(&asking, HOOKS), (401, "Bad credentials".to_owned()));
    asking.token.clear();
    assert_eq!(said(&asking, HOOKS), (401, "Requires authentication".to_owned()));
    assert_eq!(said(&asking, "/repos/acme/none"), (401, "Requires authentication".to_owned()));
    let basic = asking.try_ask("GET", HOOKS, &[("Authorization", "Basic YTpi")], "").unwrap();
    assert_eq!(basic.status, 401);
    assert_eq!(asking.get("/meta").body["hooks"], json!(["127.0.0.0/8"]));
    assert_eq!(hub.requests().last().unwrap().scheme, "");
    let schemes: Vec<String> = hub.requests().into_iter().map(|asked| asked.scheme).collect();
    assert_eq!(schemes[..2], ["Bearer", "Bearer"]);
    assert!(!format!("{:?}", hub.requests()).contains("ghp_"), "no token is kept");
}

#[test]
fn a_token_may_do_what_it_has_the_right_to() {
    let hub = Hub::start();
    hub.complete_silently(&run(1));
    let mut asking = Asking::of(&hub);
    let statuses = |asking: &Asking| {
        ["/repos/acme/web", "/repos/acme/web/actions/runs/1", HOOKS, "/orgs/acme/hooks"]
            .map(|path| asking.get(path).status)
    };
    assert_eq!(statuses(&asking), [200, 200, 200, 200]);
    asking.token = hub.token(Rights::ActionsRead);
    assert_eq!(statuses(&asking), [200, 200, 404, 404]);
    asking.token = hub.token(Rights::Nothing);
    assert_eq!(statuses(&asking), [404, 404, 404, 404]);
    hub.set_denial(Denial::Forbidden);
    assert_eq!(statuses(&asking), [403, 403, 403, 403]);
    let message = asking.get(HOOKS).body["message"].clone();
    assert_eq!(message, json!("Resource not accessible by personal access token"));
}

#[test]
fn the_app_signs_for_itself_and_gets_a_token_that_expires() {
    let hub = Hub::start();
    hub.complete_silently(&run(1));
    hub.repository("other/web");
    let app = hub.install("acme", Rights::ActionsRead);
    let mut asking = Asking::of(&hub);
    assert_eq!(asking.get("/repos/acme/web/installation").status, 401, "a token is not the App");
    assert!(app.private_key.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    asking.token = sign(&app, &json!({ "iat": now() - 60, "exp": now() + 540, "iss": app.id.to_string() }));
    for path in ["/repos/acme/web/installation", "/orgs/acme/installation"] {
        let found = asking.get(path).body;
        assert_eq!((&found["id"], &found["app_id"]), (&json!(app.installation_id), &json!(app.id)), "{path}");
    }
    assert_eq!(asking.get("/repos/other/web/installation").status, 404);
    assert_eq!(asking.get("/repos/acme/web").status, 403, "the App itself may not");
    hub.set_token_lifetime(600);
    let path = format!("/app/installations/{}/access_tokens", app.installation_id);
    let given = asking.ask("POST", &path, &Value::Null);
    assert_eq!((given.status, &given.body["permissions"]["actions"]), (201, &json!("read")));
    assert_eq!(asking.ask("POST", "/app/installations/1/access_tokens", &Value::Null).status, 404);
    let expires_at = shapes::second(&given.body["expires_at"]).unwrap();
    assert!((now() + 590..=now() + 600).contains(&expires_at));
    given.body["token"].as_str().unwrap().clone_into(&mut asking.token);
    assert_eq!(asking.get("/repos/acme/web/actions/runs").status, 200);
    assert_eq!(asking.get(HOOKS).status, 404);
    hub.set_clock_offset(601);
    assert_eq!(asking.get("/repos/acme/web/actions/runs").status, 401);
}

#[test]
fn a_signature_that_is_not_the_apps_or_for_too_long_is_401() {
    let hub = Hub::start();
    hub.repository("acme/web");
    let app = hub.install("acme", Rights::All);
    let mut asking = Asking::of(&hub);
    let good = json!({ "iat": now(), "exp": now() + 300, "iss": app.id });
    let with = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        sign(&app, &claims)
    };
    let forged = {
        let (signed, _) =
            with("iss", json!(app.id)).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let (_, signature) =
            sign(&app, &json!({})).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        format!("{signed}.{signature}")
    };
    for (token, status, why) in [
        (sign(&app, &good), 200, ""),
        (forged, 401, "could not be decoded"),
        ("e30.e30.e30".to_owned(), 401, "could not be decoded"),
        (with("iss", json!(1)), 401, "'Issuer' claim"),
        (with("iat", json!(now() + 300)), 401, "'Issued at' claim"),
        (with("exp", json!(now() + 700)), 401, "too far in the future"),
        (with("exp", json!(now() - 1)), 401, "'Expiration time' claim"),
        (with("exp", Value::Null), 401, "'Expiration time' claim"),
    ] {
        asking.token = token;
        let answer = asking.get("/repos/acme/web/installation");
        assert_eq!(answer.status, status, "{why}: {}", answer.body);
        assert!(answer.body["message"].as_str().unwrap_or_default().contains(why), "{why}: {}", answer.body);
    }
}
