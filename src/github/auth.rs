//! Who asks GitHub: somebody with a token, or a GitHub App.
//!
//! Invariant: no token and no key is in a `Debug`.

use crate::watched::Watched;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;
use std::{fmt, path::PathBuf, sync::Arc};

/// How long an App's own word is good for, in seconds. Source: "Generating a JSON Web Token (JWT) for a GitHub App": ten
/// minutes at the most, and to begin a minute before, for clocks that are apart.
const JWT_AHEAD_S: i64 = 9 * 60;
const JWT_BEHIND_S: i64 = 60;

/// Who asks.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Somebody with a token.
    Token(Token),
    /// A GitHub App, which gets a token for each of its installations.
    App(App),
}

/// A token, as its file has it at the time if it comes from one.
#[derive(Clone)]
pub struct Token(Source);

#[derive(Clone)]
enum Source {
    Fixed(Arc<str>),
    File(Arc<Watched<String>>),
}

impl Token {
    /// A token from its text; `None` if no token is such a text.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        usable(text).map(|token| Self(Source::Fixed(token.into())))
    }

    /// The token that a file holds, read again when it changes.
    ///
    /// # Errors
    /// The file cannot be read, or holds no token.
    pub fn of_file(path: PathBuf) -> Result<Self, String> {
        let parse = |contents: &[Vec<u8>]| {
            let text = contents.first().and_then(|text| std::str::from_utf8(text).ok());
            text.and_then(usable).map(str::to_owned).ok_or_else(|| "no usable token".to_owned())
        };
        Watched::read("the GitHub token", vec![path], parse).map(|file| Self(Source::File(Arc::new(file))))
    }

    /// As it is now.
    pub(crate) fn text(&self) -> String {
        match &self.0 {
            Source::Fixed(token) => token.to_string(),
            Source::File(file) => file.get().to_string(),
        }
    }
}

/// A token is a word that a header can hold.
fn usable(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|token| !token.is_empty() && token.chars().all(|char| char.is_ascii_graphic()))
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// A GitHub App: its ID, or its client ID, and the private key that it signs with.
#[derive(Clone)]
pub struct App {
    id: String,
    key: Arc<RsaKeyPair>,
}

impl App {
    /// An App from the PEM file that GitHub gave for it.
    ///
    /// # Errors
    /// There is no RSA key in it.
    pub fn new(id: &str, pem: &[u8]) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "no private key in it".to_owned())?;
        let key = match &key {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            _ => return Err("not an RSA key".to_owned()),
        };
        let key = key.map_err(|why| format!("not an RSA key that can be used: {why}"))?;
        Ok(Self { id: id.trim().to_owned(), key: Arc::new(key) })
    }

    /// The App's own word at the second `now`: a JWT by RS256. Source: RFC 7519, RFC 7518 3.3.
    pub(super) fn jwt(&self, now: i64) -> Option<String> {
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"iat": now - JWT_BEHIND_S, "exp": now + JWT_AHEAD_S, "iss": self.id});
        let signed = format!("{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
        Some(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use std::process::Command;

    /// A key as GitHub gives it out, made anew.
    fn pem() -> Vec<u8> {
        let made = Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output();
        made.expect("this test makes a key with openssl: install it").stdout
    }

    #[test]
    fn a_token_is_one_word_and_is_in_no_debug() {
        assert_eq!(Token::new(" ghp_x\n").unwrap().text(), "ghp_x");
        for text in ["", " ", "two words", "ümlaut", "a\nb"] {
            assert!(Token::new(text).is_none(), "{text:?}");
        }
        assert!(!format!("{:?}", Auth::Token(Token::new("ghp_x").unwrap())).contains("ghp_x"));
    }

    #[test]
    fn a_token_of_a_file_is_the_one_that_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(Token::of_file(path.clone()).is_err());
        std::fs::write(&path, "one\n").unwrap();
        let token = Token::of_file(path.clone()).unwrap();
        assert_eq!(token.text(), "one");
        std::fs::write(&path, "another\n").unwrap();
        assert_eq!(token.text(), "another");
        std::fs::write(&path, "").unwrap();
        assert_eq!(token.text(), "another");
    }

    #[test]
    fn an_apps_word_is_signed_with_its_key_and_lasts_less_than_ten_minutes() {
        let app = App::new("12345", &pem()).unwrap();
        let jwt = app.jwt(1_800_000_000).unwrap();
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let parts: Vec<serde_json::Value> =
            signed.split('.').map(|part| serde_json::from_slice(&decoded(part)).unwrap()).collect();
        assert_eq!(
            parts,
            [
                json!({"alg": "RS256", "typ": "JWT"}),
                json!({"iat": 1_799_999_940, "exp": 1_800_000_540, "iss": "12345"}),
            ]
        );
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, app.key.public_key().as_ref());
        public.verify(signed.as_bytes(), &decoded(signature)).unwrap();
        assert!(!format!("{app:?}").contains("key"));
    }

    #[test]
    fn a_file_without_a_usable_key_is_refused_with_the_reason() {
        for (pem, why) in [
            ("", "no private key"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n", "RSA key"),
        ] {
            assert!(App::new("1", pem.as_bytes()).unwrap_err().contains(why), "{pem}");
        }
    }
}
