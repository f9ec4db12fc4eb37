//! The signature of a delivery: HMAC-SHA256 over the raw bytes of the body.
//!
//! Invariant: no I/O, no clock. A body is compared in constant time, and nothing here prints a secret.
//!
//! Source of the rule: GitHub, "Validating webhook deliveries", header `X-Hub-Signature-256`.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// What stands before the hexadecimal digest in the header.
const SCHEME: &str = "sha256=";

/// One webhook secret, ready to sign and to verify. Its `Debug` is redacted.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl Secret {
    /// A secret from its bytes; `None` when they are empty, for an empty secret is no secret.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        Hmac::new_from_slice(bytes).ok().map(Self)
    }

    /// The header value that GitHub would send for `body`: `sha256=` and 64 hexadecimal digits.
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        let digest = self.0.clone().chain_update(body).finalize().into_bytes();
        format!("{SCHEME}{}", hex::encode(digest))
    }

    /// Whether `signature` is this secret's signature of `body`, told in constant time.
    #[must_use]
    pub fn verifies(&self, body: &[u8], signature: &Signature) -> bool {
        self.0.clone().chain_update(body).verify_slice(&signature.0).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// A well-formed `X-Hub-Signature-256`, not yet compared with anything.
#[derive(Debug, Clone, Copy)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Reads the header's value; `None` unless it is `sha256=` and exactly 64 hexadecimal digits.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let digits = header.strip_prefix(SCHEME.as_bytes())?;
        let mut digest = [0; 32];
        hex::decode_to_slice(digits, &mut digest).ok()?;
        Some(Self(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that GitHub publishes in "Validating webhook deliveries".
    const SECRET: &[u8] = b"It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const SIGNED: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[test]
    fn the_published_vector_verifies_and_is_what_we_sign() {
        let secret = Secret::new(SECRET).unwrap();
        let signature = Signature::parse(SIGNED.as_bytes()).unwrap();
        assert!(secret.verifies(BODY, &signature));
        assert_eq!(secret.sign(BODY), SIGNED);
    }

    #[test]
    fn another_body_or_another_secret_does_not_verify() {
        let signature = Signature::parse(SIGNED.as_bytes()).unwrap();
        assert!(!Secret::new(SECRET).unwrap().verifies(b"Hello, World?", &signature));
        assert!(!Secret::new(b"other").unwrap().verifies(BODY, &signature));
    }

    #[test]
    fn a_malformed_header_is_no_signature() {
        let sha1 = "sha1=7571";
        let short = SIGNED.get(..70).unwrap();
        let long = format!("{SIGNED}00");
        let not_hex = SIGNED.replace('7', "g");
        let bare = SIGNED.strip_prefix("sha256=").unwrap();
        for header in ["", "sha256=", sha1, short, &long, &not_hex, bare, "SHA256=00"] {
            assert!(Signature::parse(header.as_bytes()).is_none(), "{header}");
        }
        assert!(Signature::parse(&[0xff; 71]).is_none());
    }

    #[test]
    fn an_empty_secret_is_refused_and_a_secret_is_never_printed() {
        assert!(Secret::new(b"").is_none());
        let shown = format!("{:?}", Secret::new(b"hush").unwrap());
        assert_eq!(shown, "Secret(redacted)");
    }
}
