//! Which database.
//!
//! Invariant: a password is in no URL, no log and no `Debug`, and a certificate is always verified.

use super::session::{Session, begin};
use crate::{ledger::Mode, outgoing};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{
    error::Error as _,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::task::JoinSet;
use tokio_postgres::{
    Config, Error,
    config::{Host, SslMode, TargetSessionAttrs},
    error::SqlState,
};

/// How long a session may take to begin, on whichever host takes writes.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long each address of a host is tried. All hosts are tried at once: one that does not answer keeps nobody.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The server cannot be reached, or does not do what was asked.
    #[error("{database}")]
    Failed {
        /// Which, without secrets.
        database: String,
        /// What it or the system said.
        source: Error,
    },
    /// It does not answer in time.
    #[error("{database}: no answer for {} s", .after.as_secs())]
    Silent {
        /// Which.
        database: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// What is there was made by a later version.
    #[error("{database}: schema {schema} has the format {found}, which this version of runhound does not know")]
    Format {
        /// Which.
        database: String,
        /// The schema.
        schema: &'static str,
        /// Its format.
        found: i32,
    },
    /// What the server is, or how it is set, breaks a guarantee.
    #[error("{database}: {what}")]
    Unfit {
        /// Which.
        database: String,
        /// What is not as it must be.
        what: String,
    },
    /// The file of its password cannot be read.
    #[error("--ledger-password-file {}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl DatabaseError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Failed { source, .. } => match source.code() {
                Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                    "see to the user in --ledger, to the password in --ledger-password-file or PGPASSWORD, and to pg_hba.conf"
                }
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                    "the user needs CREATE on the database, or a schema that it owns: docs/scaling.md has the commands"
                }
                Some(&SqlState::INVALID_CATALOG_NAME) => "make the database with createdb, or name another in --ledger",
                Some(&SqlState::TOO_MANY_CONNECTIONS) => {
                    "each replica needs 3 connections: raise max_connections, or the limit of this user"
                }
                _ => {
                    "see that the server is there and takes writes, and to host, port, sslmode and sslrootcert in --ledger"
                }
            },
            Self::Silent { .. } => {
                "see to the database server: it is overloaded, or something between us takes no traffic"
            }
            Self::Format { .. } => "run the version of runhound that wrote it, or a later one",
            Self::Unfit { .. } => "docs/scaling.md says what the server needs",
            Self::Password { .. } => "name a file that this user can read",
        }
    }

    /// Whether another try, without a change of what is configured, can be of use.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Failed { source, .. } => match source.code() {
                // Names, passwords, privileges and syntax do not mend themselves.
                Some(code) => !["28", "3D", "42"].iter().any(|class| code.code().starts_with(class)),
                // Nor do certificates.
                None => !is_of_tls(source),
            },
            Self::Silent { .. } => true,
            Self::Format { .. } | Self::Unfit { .. } | Self::Password { .. } => false,
        }
    }
}

/// An address that is none of a database.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It cannot be used.
    #[error("{0}")]
    Bad(String),
    /// A secret stands in it.
    #[error("there is a password in it")]
    Password,
}

/// Whether TLS could not be agreed on.
fn is_of_tls(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inside = inside.and_then(|inside| inside.downcast_ref::<rustls::Error>());
        if error.is::<rustls::Error>() || inside.is_some() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A database, and the schema in it that is ours.
#[derive(Clone)]
pub struct Database {
    /// For each host.
    configs: Vec<Config>,
    tls: Option<ClientConfig>,
    password_file: Option<PathBuf>,
    is_private: bool,
    /// Where it is, as it can be shown.
    shown: String,
    /// The name of the schema.
    pub(super) schema: &'static str,
    /// For how many days keys of runs are remembered that were sent.
    pub(super) retention_days: i32,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("shown", &self.shown).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Database {
    /// The database of a URL, as `libpq` reads one, with the password of a file, or else this one.
    ///
    /// # Errors
    /// The URL cannot be used, or has a password in it.
    pub fn new(
        url: &str,
        mode: Mode,
        password_file: Option<&Path>,
        password: Option<&str>,
        retention_days: u16,
    ) -> Result<Self, AddressError> {
        let bad = |what: &str| AddressError::Bad(what.to_owned());
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(bad("it does not begin with postgres://"));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut sslmode, mut roots, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default();
            match &*name {
                "sslmode" => sslmode = Some(value.into_owned()),
                "sslrootcert" => roots = Some(PathBuf::from(&*value)),
                "password" => return Err(AddressError::Password),
                _ => rest.push(pair),
            }
        }
        let plain = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        // What it says of a URL it cannot read could hold what a password has become.
        let config: Config = plain.parse().map_err(|_| bad("it is not a URL of a PostgreSQL database"))?;
        if config.get_password().is_some() {
            return Err(AddressError::Password);
        }
        if config.get_hosts().is_empty() {
            return Err(bad("it names no host, nor a folder of sockets as ?host=/var/run/postgresql"));
        }
        if !config.get_hostaddrs().is_empty() {
            return Err(bad("hostaddr: name the host alone"));
        }
        let is_near = config.get_hosts().iter().all(is_near);
        let is_verified = match sslmode.as_deref() {
            None => !is_near || roots.is_some(),
            Some("verify-full" | "verify-ca" | "require") => true,
            Some("disable") => false,
            Some(other) => return Err(bad(&format!("sslmode={other} is neither verify-full nor disable"))),
        };
        let tls = is_verified.then(|| client_config(roots.as_deref())).transpose()?;
        let password = password.filter(|_| password_file.is_none());
        let mode_of_tls = if is_verified { SslMode::Require } else { SslMode::Disable };
        Ok(Self {
            shown: shown(&config),
            configs: (0..config.get_hosts().len()).map(|host| of_host(&config, host, mode_of_tls, password)).collect(),
            tls,
            is_private: is_verified || is_near,
            password_file: password_file.map(Path::to_owned),
            schema: match mode {
                Mode::Live => "runhound",
                Mode::DryRun => "runhound_dry_run",
            },
            retention_days: retention_days.into(),
        })
    }

    /// Whether what goes to it is encrypted, or stays on this machine.
    #[must_use]
    pub const fn is_private(&self) -> bool {
        self.is_private
    }

    /// Begins a session with the host that takes writes.
    pub(super) async fn connect(&self) -> Result<Session, DatabaseError> {
        let password = self.password_file.as_ref().map(|path| {
            fs::read_to_string(path).map_err(|source| DatabaseError::Password { path: path.clone(), source })
        });
        let password = password.transpose()?;
        let mut tries = JoinSet::new();
        for config in &self.configs {
            let mut config = config.clone();
            if let Some(password) = &password {
                config.password(password.trim_end_matches(['\r', '\n']));
            }
            tries.spawn(begin(config, self.tls.clone(), self.schema));
        }
        let first = async {
            let mut failed: Option<Error> = None;
            while let Some(tried) = tries.join_next().await {
                match tried {
                    Ok(Ok((session, None))) => return Ok(session),
                    Ok(Ok((_, Some(what)))) => {
                        return Err(DatabaseError::Unfit { database: self.to_string(), what });
                    }
                    // What a server says tells more than that another one says nothing.
                    Ok(Err(error)) if failed.as_ref().is_none_or(|failed| failed.code().is_none()) => {
                        failed = Some(error);
                    }
                    Ok(Err(_)) => {}
                    Err(panicked) => log::error!("a try to connect has failed: {panicked}"),
                }
            }
            Err(failed.map_or_else(|| self.silent(BEGIN_TIMEOUT), |source| self.failed(source)))
        };
        tokio::time::timeout(BEGIN_TIMEOUT, first).await.unwrap_or_else(|_| Err(self.silent(BEGIN_TIMEOUT)))
    }

    pub(super) fn silent(&self, after: Duration) -> DatabaseError {
        DatabaseError::Silent { database: self.to_string(), after }
    }

    pub(super) fn failed(&self, source: Error) -> DatabaseError {
        DatabaseError::Failed { database: self.to_string(), source }
    }
}

/// The same for one of its hosts, and what holds for all of ours.
fn of_host(config: &Config, host: usize, ssl_mode: SslMode, password: Option<&str>) -> Config {
    let mut one = Config::new();
    match config.get_hosts().get(host) {
        Some(Host::Unix(folder)) => one.host_path(folder),
        Some(Host::Tcp(name)) => one.host(name),
        None => &mut one,
    };
    let ports = config.get_ports();
    if let Some(port) = ports.get(host).or(ports.first()) {
        one.port(*port);
    }
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(password) = password {
        one.password(password);
    }
    one.ssl_mode(ssl_mode)
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .application_name("runhound")
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(10));
    one
}

/// Whether it can only be this machine.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
    }
}

/// Host and database.
fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let host = |(number, host): (usize, &Host)| match (host, ports.get(number).or(ports.first())) {
        (Host::Unix(folder), _) => folder.display().to_string(),
        (Host::Tcp(name), Some(port)) => format!("{name}:{port}"),
        (Host::Tcp(name), None) => name.clone(),
    };
    let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(host).collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("PostgreSQL database {database} on {}", hosts.join(","))
}

/// TLS that trusts the certificates of this file, or those that the system trusts.
fn client_config(roots: Option<&Path>) -> Result<ClientConfig, AddressError> {
    let Some(path) = roots else {
        return outgoing::tls(outgoing::roots()).map_err(|error| AddressError::Bad(format!("TLS: {error}")));
    };
    let bad = |cause: String| AddressError::Bad(format!("sslrootcert {}: {cause}", path.display()));
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))? {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        store.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    outgoing::tls(store).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests;
