//! Arguments that say where the ledger is.

use clap::Args;
use std::path::PathBuf;

/// Where the ledger is, if not in files.
#[derive(Debug, Clone, Args)]
pub struct LedgerArgs {
    /// Keep the ledger in this PostgreSQL database, which replicas share: `postgres://user@host/database` [default: files]
    ///
    /// Certificates are verified, against `sslrootcert=FILE` or what the system trusts, unless `sslmode=disable`. A folder of
    /// sockets is named as `postgres://user@/database?host=/var/run/postgresql`.
    #[arg(long, env = "RUNHOUND_LEDGER", value_name = "URL")]
    pub ledger: Option<String>,
    /// File of the database's password, read again for each connection [default: what PGPASSWORD holds]
    #[arg(long, env = "RUNHOUND_LEDGER_PASSWORD_FILE", value_name = "FILE")]
    pub ledger_password_file: Option<PathBuf>,
    /// Days for which the database knows runs that were sent: an older one that is delivered again would count again
    #[arg(
        long, env = "RUNHOUND_LEDGER_RETENTION", value_name = "DAYS", default_value_t = 400,
        value_parser = clap::value_parser!(u16).range(31..),
    )]
    pub ledger_retention: u16,
}
