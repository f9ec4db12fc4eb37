//! Who asks, and what they may: tokens, and a GitHub App that signs for itself and gets tokens for its installations.
//!
//! Invariant: what an unknown, revoked or expired token, or a signature that is not the App's, asks for is answered by 401.

use super::{
    reply::Reply,
    shapes,
    state::{Repository, State},
};
use base64::{Engine, engine::general_purpose};
use ring::{
    rsa::KeyPair,
    signature::{self, UnparsedPublicKey},
};
use serde_json::{Value, json};
use std::{process::Command, sync::LazyLock};

/// The longest that an App may sign for.
const JWT_MAX_S: i64 = 600;

/// How far the clock of an App may be ahead.
const DRIFT_MAX_S: i64 = 60;

const HOUR_S: i64 = 3600;

/// The App's private key as GitHub gives it out, and what belongs to it. It is made anew for each run of the tests.
static KEY: LazyLock<(String, KeyPair)> = LazyLock::new(|| {
    let made = Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output();
    let pem = String::from_utf8(made.expect("openssl makes a key").stdout).expect("a key is text");
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = general_purpose::STANDARD.decode(text).expect("a key is in base64");
    (pem, KeyPair::from_der(&der).expect("a key of RSA"))
});

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Everything.
    All,
    /// Read repositories and their runs; nothing of hooks.
    ActionsRead,
    /// Nothing.
    Nothing,
}

/// How GitHub refuses what a token has no right to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Denial {
    /// 404, as if it were not there.
    #[default]
    NotFound,
    /// 403 with a reason.
    Forbidden,
}

/// A GitHub App.
#[derive(Debug, Clone)]
pub(crate) struct App {
    /// What signs as `iss`.
    pub(crate) id: u64,
    /// The key in PEM, in the form in which GitHub gives it out.
    pub(crate) private_key: String,
    /// Of the installation.
    pub(crate) installation_id: u64,
}

#[derive(Debug)]
struct Token {
    text: String,
    rights: Rights,
    expires_at: Option<i64>,
}

#[derive(Debug)]
struct Installation {
    id: u64,
    organisation_id: u64,
    rights: Rights,
}

/// All that may be asked with.
#[derive(Debug)]
pub(super) struct Access {
    tokens: Vec<Token>,
    pub(super) denial: Denial,
    app_id: u64,
    installations: Vec<Installation>,
    pub(super) token_lifetime_s: i64,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            denial: Denial::default(),
            app_id: 4_017_001,
            installations: Vec::new(),
            token_lifetime_s: HOUR_S,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// One without authorisation.
    Nobody,
    /// One with a token.
    Token(Rights),
    /// The App itself.
    App,
}

impl Access {
    pub(super) fn give(&mut self, prefix: &str, rights: Rights, expires_at: Option<i64>) -> String {
        let text = format!("{prefix}_{:016x}{:04}", fastrand::u64(..), self.tokens.len());
        self.tokens.push(Token { text: text.clone(), rights, expires_at });
        text
    }

    pub(super) fn revoke(&mut self, text: &str) {
        self.tokens.retain(|token| token.text != text);
    }

    /// Who asks with this header.
    pub(super) fn caller(&self, header: Option<&str>, clock: i64) -> Result<Caller, Reply> {
        let Some(header) = header else {
            return Ok(Caller::Nobody);
        };
        let bad = || Reply::error(401, "Bad credentials");
        let (scheme, text) = header.split_once(' ').ok_or_else(bad)?;
        if !["bearer", "token"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return Err(bad());
        }
        if text.matches('.').count() == 2 {
            return self.verify(text, clock).map(|()| Caller::App).map_err(|message| Reply::error(401, message));
        }
        let is_valid = |token: &&Token| token.text == text && token.expires_at.is_none_or(|at| clock < at);
        self.tokens.iter().find(is_valid).map(|token| Caller::Token(token.rights)).ok_or_else(bad)
    }

    /// Whether the App signed this, and for no longer than it may.
    fn verify(&self, jwt: &str, clock: i64) -> Result<(), &'static str> {
        let undecodable = "A JSON web token could not be decoded";
        let (signed, signature) = jwt.rsplit_once('.').ok_or(undecodable)?;
        let (header, claims) = signed.split_once('.').ok_or(undecodable)?;
        let bytes = |text: &str| general_purpose::URL_SAFE_NO_PAD.decode(text).map_err(|_| undecodable);
        let json =
            |text: &str| -> Result<Value, &str> { serde_json::from_slice(&bytes(text)?).map_err(|_| undecodable) };
        if json(header)?["alg"] != json!("RS256") {
            return Err(undecodable);
        }
        let public = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, KEY.1.public().as_ref());
        public.verify(signed.as_bytes(), &bytes(signature)?).map_err(|_| undecodable)?;
        let claims = json(claims)?;
        let is_app = claims["iss"] == json!(self.app_id) || claims["iss"] == json!(self.app_id.to_string());
        if !is_app {
            return Err("'Issuer' claim ('iss') must be an Integer");
        }
        if claims["iat"].as_i64().is_none_or(|at| at > clock + DRIFT_MAX_S) {
            return Err(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            );
        }
        match claims["exp"].as_i64() {
            Some(at) if at > clock + JWT_MAX_S => Err("'Expiration time' claim ('exp') is too far in the future"),
            Some(at) if at > clock => Ok(()),
            _ => Err(
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the \
                      assertion expires",
            ),
        }
    }

    /// The refusal of what a caller has no right to.
    pub(super) fn refuse(&self, caller: Caller) -> Reply {
        match (caller, self.denial) {
            (Caller::Nobody, _) => Reply::error(401, "Requires authentication"),
            (Caller::App, _) => Reply::error(403, "Resource not accessible by integration"),
            (Caller::Token(_), Denial::NotFound) => Reply::not_found(),
            (Caller::Token(_), Denial::Forbidden) => {
                Reply::error(403, "Resource not accessible by personal access token")
            }
        }
    }
}

impl State {
    /// Installs the App for all repositories of an organisation.
    pub(super) fn install(&mut self, organisation_id: u64, rights: Rights) -> App {
        let installation_id = self.next_id();
        self.access.installations.push(Installation { id: installation_id, organisation_id, rights });
        App { id: self.access.app_id, private_key: KEY.0.clone(), installation_id }
    }

    /// The installation for an organisation.
    pub(super) fn installation(&self, caller: Caller, organisation_id: u64) -> Reply {
        if caller != Caller::App {
            return Reply::error(401, "A JSON web token could not be decoded");
        }
        let is_it = |known: &&Installation| known.organisation_id == organisation_id;
        self.access.installations.iter().find(is_it).map_or_else(Reply::not_found, |known| {
            let owned = |repository: &&Repository| repository.organisation_id == organisation_id;
            let account = self.repositories.iter().find(owned).map(|repository| repository.object["owner"].clone());
            let (api, now) = (self.api(), shapes::time(self.clock()));
            Reply::ok(json!({
                "id": known.id,
                "account": account,
                "repository_selection": "all",
                "access_tokens_url": format!("{api}/app/installations/{}/access_tokens", known.id),
                "repositories_url": format!("{api}/installation/repositories"),
                "html_url": format!("{}/settings/installations/{}", self.base, known.id),
                "app_id": self.access.app_id,
                "app_slug": "runhound",
                "target_id": organisation_id,
                "target_type": "Organization",
                "permissions": permissions(known.rights),
                "events": [],
                "created_at": now,
                "updated_at": now,
                "single_file_name": null,
                "suspended_by": null,
                "suspended_at": null,
            }))
        })
    }

    /// A token for an installation.
    pub(super) fn installation_token(&mut self, caller: Caller, id: &str) -> Reply {
        if caller != Caller::App {
            return Reply::error(401, "A JSON web token could not be decoded");
        }
        let Some(known) = self.access.installations.iter().find(|known| known.id.to_string() == id) else {
            return Reply::not_found();
        };
        let (rights, expires_at) = (known.rights, self.clock() + self.access.token_lifetime_s);
        let token = self.access.give("ghs", rights, Some(expires_at));
        Reply::new(
            201,
            json!({
                "token": token,
                "expires_at": shapes::time(expires_at),
                "permissions": permissions(rights),
                "repository_selection": "all",
            }),
        )
    }
}

fn permissions(rights: Rights) -> Value {
    match rights {
        Rights::All => json!({
            "actions": "read", "metadata": "read", "repository_hooks": "write", "organization_hooks": "write",
        }),
        Rights::ActionsRead => json!({ "actions": "read", "metadata": "read" }),
        Rights::Nothing => json!({ "metadata": "read" }),
    }
}
