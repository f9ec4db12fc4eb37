//! TLS on the public listener: a certificate and its key, read again when their files change.
//!
//! Invariant: a pair that cannot be used, or whose key is not the certificate's, never takes the place of one that can.

use crate::watched::Watched;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{path::PathBuf, sync::Arc};

/// A certificate chain and its private key, as their files have them at the time. Its `Debug` shows the paths alone.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Watched<CertifiedKey>>);

impl Tls {
    /// Reads both PEM files.
    ///
    /// # Errors
    /// One cannot be read or used, or they do not belong together: which, and why.
    pub fn read(certificate: PathBuf, key: PathBuf) -> Result<Self, String> {
        let pair = Watched::read("the certificate and its key", vec![certificate, key], parse);
        pair.map(|pair| Self(Arc::new(pair)))
    }

    /// Whether the files cannot be used as they are now, so that the pair is that of before.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.0.is_stale()
    }

    /// How many certificates the chain has.
    #[must_use]
    pub fn chain_len(&self) -> usize {
        self.0.get().cert.len()
    }

    /// What a listener needs: TLS 1.2 and 1.3, and no protocol but HTTP/1.1 inside.
    pub(crate) fn server(&self) -> Result<ServerConfig, rustls::Error> {
        let builder =
            ServerConfig::builder_with_provider(Arc::new(provider())).with_safe_default_protocol_versions()?;
        let resolver = Arc::new(Resolver(Arc::clone(&self.0)));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Answers each handshake with the pair as it is at the time.
#[derive(Debug)]
struct Resolver(Arc<Watched<CertifiedKey>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

fn parse(contents: &[Vec<u8>]) -> Result<CertifiedKey, String> {
    let [certificate, key] = contents else {
        return Err("neither certificate nor key".to_owned());
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| format!("the certificate's file is no PEM: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate's file has no certificate".to_owned());
    }
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key's file has no usable key: {error}"))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
        error => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn pair(dir: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn a_pair_takes_the_place_of_another_only_once_both_belong_together() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(dir.path());
        let tls = Tls::read(certificate.clone(), key.clone()).unwrap();
        let first = tls.0.get();
        let (other_dir, now) = (tempfile::tempdir().unwrap(), || tls.0.get().cert.clone());
        let (other_certificate, other_key) = pair(other_dir.path());
        fs::copy(other_certificate, &certificate).unwrap();
        assert_eq!((now(), tls.is_stale()), (first.cert.clone(), true), "a certificate alone");
        fs::copy(other_key, &key).unwrap();
        assert!(now() != first.cert && !tls.is_stale());
        let second = now();
        fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        assert_eq!((now(), tls.is_stale()), (second, true), "a key that is none");
    }

    #[test]
    fn a_pair_that_cannot_be_used_says_why_and_shows_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(dir.path());
        let other_dir = tempfile::tempdir().unwrap();
        let (other_certificate, _) = pair(other_dir.path());
        let empty = dir.path().join("empty");
        fs::write(&empty, "").unwrap();
        let missing = dir.path().join("missing");
        for (certificate, key, what) in [
            (&missing, &key, "missing: No such file"),
            (&certificate, &missing, "missing: No such file"),
            (&empty, &key, "the certificate's file has no certificate"),
            (&key, &key, "the certificate's file has no certificate"),
            (&certificate, &empty, "the key's file has no usable key"),
            (&certificate, &certificate, "the key's file has no usable key"),
            (&other_certificate, &key, "the key is not that of the certificate"),
        ] {
            let error = Tls::read(certificate.clone(), key.clone()).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        let secret = fs::read_to_string(&key).unwrap();
        let shown = format!("{:?}", Tls::read(certificate, key).unwrap());
        assert!(!secret.lines().any(|line| shown.contains(line)), "{shown}");
    }
}
