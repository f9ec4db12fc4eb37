//! Passwords and certificates: a server that is not the one that was named is told nothing, and a password is where it was put
//! and nowhere else.

use super::{
    cluster::{Cluster, PASSWORD, wait_until},
    failing::password_file,
    replicas::{Stage, assert_refused_in_time, run},
    starting::start_until,
};
use crate::harness::Service;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{fs, path::Path};
use tempfile::TempDir;

const SESSIONS: &str =
    "from pg_stat_activity join pg_stat_ssl using (pid) where application_name = 'runhound' and client_port > 0";

/// A database over TCP, and a folder with the file of its password.
fn on_tcp(settings: &[(&str, &str)]) -> Option<(Stage, TempDir)> {
    let cluster = Cluster::on_tcp(settings)?;
    let dir = tempfile::tempdir().unwrap();
    let url = Cluster::tls_url(&[&cluster]);
    let mut stage = Stage::on(cluster);
    let password = password_file(dir.path(), PASSWORD);
    stage.arguments.push(format!("--ledger-password-file={}", password.display()));
    stage.url = url;
    Some((stage, dir))
}

/// The certificate of an authority that has signed nothing.
fn another_authority(dir: &Path) -> String {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let path = dir.join("another.crt");
    fs::write(&path, authority.pem()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn over_tls_runs_are_taken_in_by_sessions_that_are_all_encrypted() {
    let Some((mut stage, _dir)) = on_tcp(&[]) else { return };
    for (mode, is_encrypted) in [("verify-full", true), ("verify-ca", true), ("require", true), ("disable", false)] {
        let (base, roots) = (Cluster::tcp_url(&[&stage.cluster]), stage.cluster.authority());
        stage.url = format!("{base}?sslmode={mode}&sslrootcert={}", roots.display());
        let [service] = stage.start();
        assert!(matches!(service.deliver(&run(1)).status, 200 | 202));
        let sessions = stage.cluster.psql(&format!("select count(*) >= 2, bool_and(ssl), bool_or(ssl) {SESSIONS}"));
        assert_eq!(sessions, if is_encrypted { "t|t|t" } else { "t|f|f" }, "{mode}");
        stage.wait_until_all_is_sent();
        service.stop();
    }
    stage.assert_counted(1);
}

#[test]
fn a_server_with_another_authoritys_certificate_or_for_another_name_is_told_nothing() {
    let Some((mut stage, dir)) = on_tcp(&[("log_connections", "on")]) else { return };
    let (right, roots) = (stage.url.clone(), stage.cluster.authority().display().to_string());
    for (url, tells) in [
        (right.replace(&roots, &another_authority(dir.path())), "UnknownIssuer"),
        (right.replace("127.0.0.1", "localhost"), "not valid for name \"localhost\""),
        // What the system trusts is not that authority.
        (right.split("&sslrootcert").next().unwrap().to_owned(), "UnknownIssuer"),
        (right.replace("verify-full", "require").replace("127.0.0.1", "localhost"), "not valid for name \"localhost\""),
    ] {
        stage.url = url;
        let (line, _process, _log) = start_until(&stage.launch(), "PostgreSQL database");
        assert!(line.contains(tells) && !line.contains("trying again"), "{}: {line}", stage.url);
    }
    assert!(!stage.cluster.log().contains("user=runhound database=runhound application_name=runhound"));
    assert_eq!(stage.cluster.psql("select to_regnamespace('runhound')"), "");
}

#[test]
fn a_password_that_is_changed_on_both_sides_is_used_from_the_next_connection_on() {
    let Some((stage, dir)) = on_tcp(&[]) else { return };
    let [service] = stage.start();
    assert_eq!(service.deliver(&run(1)).status, 202);
    stage.cluster.psql("alter role runhound password 'a new one'");
    // Sessions that have begun go on.
    assert_eq!(service.deliver(&run(2)).status, 202);
    let end = format!("select count(pg_terminate_backend(pid)) {SESSIONS}");
    assert!(stage.number(&end) >= 2);
    wait_until("the sessions are gone", || stage.number(&format!("select count(*) {SESSIONS}")) == 0);
    assert_refused_in_time(|| service.deliver(&run(3)));
    let (answer, text) = service.ask("/readyz");
    assert!(answer.status == 503 && text.contains("password authentication failed"), "{text}");
    password_file(dir.path(), "a new one");
    assert_eq!(service.deliver(&run(3)).status, 202);
    stage.wait_until_all_is_sent();
    stage.assert_counted(3);
}

/// All that a service shows of itself, to whoever looks.
fn shown(service: &Service) -> String {
    let process = service.id();
    let pages = ["/", "/status.json", "/metrics", "/readyz"].map(|path| service.ask(path).1).concat();
    pages + &fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap()
}

#[test]
fn a_password_shows_in_no_log_no_page_no_error_and_no_list_of_processes() {
    let Some((mut stage, _dir)) = on_tcp(&[("log_statement", "all"), ("log_connections", "on")]) else { return };
    let launch = stage.launch().variable("RUST_LOG", "trace");
    stage.arguments.clear();
    let by_variable = stage.launch().variable("RUST_LOG", "trace").variable("PGPASSWORD", PASSWORD);
    for (id, launch) in (1..).zip([launch, by_variable]) {
        let service = launch.start();
        assert_eq!(service.deliver(&run(id)).status, 202);
        stage.wait_until_all_is_sent();
        let shown = shown(&service);
        // What a failure says is as clean.
        stage.cluster.kill9();
        let (_, error) = service.ask("/readyz");
        assert!(error.contains("PostgreSQL database runhound on 127.0.0.1"), "{error}");
        stage.cluster.start_again();
        wait_until("it is ready again", || service.ask("/readyz").0.status == 200);
        let log = service.stop().join("\n");
        assert!(log.contains(" TRACE ") || log.contains(" DEBUG "), "{log}");
        for (place, text) in [("shown", shown), ("error", error), ("log", log)] {
            assert!(!text.contains(PASSWORD) && !text.contains("password &"), "{place}: {text}");
        }
    }
    stage.assert_counted(2);
}
