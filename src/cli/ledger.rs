//! Arguments that say where the ledger is.

use super::{CACHE_DIR, truth};
use clap::{Args, Subcommand};
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

impl LedgerArgs {
    /// Where it is, if not in files. An empty variable is not set.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.ledger.as_deref().map(str::trim).filter(|url| !url.is_empty())
    }
}

/// Arguments of `ledger`.
#[derive(Debug, Args)]
pub struct LedgerCommand {
    /// Which way
    #[command(subcommand)]
    pub way: Way,
}

/// From where to where a ledger is copied.
#[derive(Debug, Subcommand)]
pub enum Way {
    /// Copy the files' ledger into the database
    ///
    /// The service must be stopped, and all replicas. The files stay as they are; never start a service on them again. If it
    /// breaks off, run it again: it goes on.
    Import(Transfer),
    /// Copy the database's ledger into files of a new directory
    ///
    /// All replicas must be stopped. The database stays as it is; never start a replica on it again. The directory has `.part`
    /// behind its name until it is whole. If it breaks off, run it again: it goes on.
    Export(Transfer),
}

/// Both sides of a copy.
#[derive(Debug, Args)]
pub struct Transfer {
    /// Copy the ledger of a dry run
    #[arg(long, env = "RUNHOUND_DRY_RUN", value_parser = truth)]
    pub dry_run: bool,
    /// Where the files are, or will be
    #[arg(long, env = "RUNHOUND_CACHE_DIR", value_name = "DIR", default_value = CACHE_DIR)]
    pub cache_dir: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub ledger: LedgerArgs,
}
