//! The public listener in TLS.

use super::{GITHUBS_PATIENCE, connect, delivery, read_answer};
use crate::harness::{Answer, SECRET, Service, Start, program};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use tempfile::TempDir;

/// A certificate that is its own authority, and its key, in PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Pair {
    pub(super) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    /// Writes both into files in a folder, each in one step.
    pub(super) fn write(&self, dir: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        for (path, text) in [(&certificate, &self.certificate), (&key, &self.key)] {
            let beside = path.with_extension("new");
            fs::write(&beside, text).unwrap();
            fs::rename(&beside, path).unwrap();
        }
        (certificate, key)
    }

    /// A service with this pair, and the folder of its files.
    pub(super) fn serve(&self, arguments: &[&str]) -> (TempDir, Service) {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = self.write(dir.path());
        let start = Start::dry_run(&dir.path().join("cache"))
            .argument(&format!("--tls-cert={}", certificate.display()))
            .variable("RUNHOUND_TLS_KEY", key.to_str().unwrap());
        let service = arguments.iter().fold(start, |start, argument| start.argument(argument)).start();
        (dir, service)
    }
}

/// A client that trusts these pairs alone, and speaks these protocols.
pub(super) fn client(pairs: &[&Pair], protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for pair in pairs {
        roots.add(pair.der()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = builder.with_no_client_auth();
    // A session that is taken up again shows the certificate it began with.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Sends bytes in TLS and reads one answer; with which certificate it came, and in which protocol.
pub(super) fn exchange(
    client: &Arc<ClientConfig>,
    address: SocketAddr,
    bytes: &[u8],
) -> io::Result<(Answer, CertificateDer<'static>, Option<Vec<u8>>)> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut stream = StreamOwned::new(connection, connect(address));
    stream.write_all(bytes)?;
    let answer = read_answer(&mut stream)?;
    let certificate = stream.conn.peer_certificates().and_then(|chain| chain.first()).unwrap().clone().into_owned();
    Ok((answer, certificate, stream.conn.alpn_protocol().map(<[u8]>::to_vec)))
}

#[test]
fn deliveries_are_taken_in_tls_by_http_1_1_alone() {
    let pair = Pair::new();
    let (_dir, service) = pair.serve(&[]);
    assert!(service.start_line.contains("listening on https://"), "{}", service.start_line);
    let client = client(&[&pair], &["h2", "http/1.1"]);
    let (answer, certificate, protocol) = exchange(&client, service.address, &delivery(1, SECRET, "close")).unwrap();
    assert_eq!((answer.status, certificate), (202, pair.der()));
    assert_eq!(protocol.as_deref(), Some(&b"http/1.1"[..]), "though the client would rather have HTTP/2");
    let plain = super::exchange(service.address, &delivery(2, SECRET, "close"));
    assert_eq!(super::statuses(&plain), Vec::<u16>::new(), "{plain}");
    let log = service.stop();
    assert_eq!(super::strange(&log), Vec::<&String>::new());
}

#[test]
fn a_thousand_clients_who_begin_no_handshake_keep_no_delivery_from_its_answer() {
    let pair = Pair::new();
    let (_dir, service) = pair.serve(&["--client-timeout=600"]);
    let idle: Vec<TcpStream> = (0..1_000).map(|_| connect(service.address)).collect();
    let client = client(&[&pair], &[]);
    for id in 1..=20 {
        let begun = Instant::now();
        let (answer, ..) = exchange(&client, service.address, &delivery(id, SECRET, "close")).unwrap();
        assert_eq!(answer.status, 202);
        assert!(begun.elapsed() < GITHUBS_PATIENCE, "{:?}", begun.elapsed());
    }
    drop(idle);
}

#[test]
fn one_that_is_slow_to_begin_its_handshake_is_let_go() {
    let pair = Pair::new();
    let (_dir, service) = pair.serve(&["--client-timeout=1"]);
    let mut silent = connect(service.address);
    assert_eq!(super::read_to_close(&mut silent), "");
}

#[test]
fn a_pair_that_cannot_be_used_is_told_at_the_start_and_by_a_check() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, _) = Pair::new().write(dir.path());
    let other = tempfile::tempdir().unwrap();
    let (_, key) = Pair::new().write(other.path());
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let missing = dir.path().join("missing");
    for (key, cause) in [(key, "the key is not that of the certificate"), (missing.to_str().unwrap(), "No such file")] {
        for command in ["serve", "check"] {
            let arguments = [command, "--dry-run", "--tls-cert", certificate, "--tls-key", key];
            let mut run = program(&arguments);
            let output =
                run.env("GITHUB_WEBHOOK_SECRET", SECRET).env("RUNHOUND_CACHE_DIR", dir.path()).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{command}");
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            assert!(said.contains(cause) && said.contains(key) && said.contains("--tls-cert"), "{command}: {said}");
        }
    }
    let mut half = program(&["serve", "--dry-run", "--tls-cert", certificate]);
    let output = half.env("GITHUB_WEBHOOK_SECRET", SECRET).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--tls-key"));
}
