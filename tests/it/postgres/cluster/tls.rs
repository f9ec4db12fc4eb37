//! An authority, and a certificate of it for 127.0.0.1 and no other name. All clusters of the process have the same.

use super::place::Place;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::{fs::File, io::Write, os::unix::fs::OpenOptionsExt};

pub(super) const AUTHORITY: &str = "authority.crt";
pub(super) const CERTIFICATE: &str = "server.crt";
pub(super) const KEY: &str = "server.key";

pub(super) fn write(place: &Place) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "an authority of tests");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    for (name, text, mode) in [
        (AUTHORITY, authority.pem(), 0o644),
        (CERTIFICATE, server.pem(), 0o644),
        // The server wants it to be its own, and closed to all others.
        (KEY, key.serialize_pem(), 0o600),
    ] {
        let path = place.file(name);
        File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        place.give(&path);
    }
}
