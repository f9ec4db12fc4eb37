//! `ledger import` and `ledger export`: the ledger from files into a database, and back.

use crate::{
    cli::{LedgerCommand, Transfer, Way},
    config::{self, ConfigError},
    ledger::{self, AddressError, Copied, Database, Files, Mode, TransferError},
    progress,
};
use indicatif::ProgressBar;
use std::io::{self, Write};

/// The ledger cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// Something in the configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The copy cannot be made.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The summary cannot be written.
    #[error("standard output: {0}")]
    Output(io::Error),
}

impl MoveError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Config(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::Output(_) => "the ledger is copied",
        }
    }
}

/// Copies the ledger, and prints what was copied.
///
/// # Errors
/// Either side cannot be used, or is in use.
pub fn transfer(arguments: &LedgerCommand) -> Result<(), MoveError> {
    let bar = progress::bar(0, "IDs and runs");
    let (from, to, copied) = match &arguments.way {
        Way::Import(transfer) => {
            let database = database(transfer)?;
            let copied = run(ledger::import(&files(transfer, &transfer.cache_dir), &database, &bar), &bar)?;
            (transfer.cache_dir.display().to_string(), database.to_string(), copied)
        }
        Way::Export(transfer) => {
            let database = database(transfer)?;
            let copied = run(ledger::export(&database, &transfer.cache_dir, |dir| files(transfer, dir), &bar), &bar)?;
            (database.to_string(), transfer.cache_dir.display().to_string(), copied)
        }
    };
    let Copied { sent, new, pending, sealed, rejected } = copied;
    let told = format!(
        "{from} is copied to {to}:\n  {sent} IDs of runs sent, {} of which were there before\n  {pending} runs pending, \
         {sealed} of them in the open batch\n  {rejected} rejected lines\nnever start a service on {from} again: it would send \
         what is sent from {to}\n",
        sent - new
    );
    io::stdout().lock().write_all(told.as_bytes()).map_err(MoveError::Output)
}

fn run(copy: impl Future<Output = Result<Copied, TransferError>>, bar: &ProgressBar) -> Result<Copied, TransferError> {
    let copied = actix_web::rt::System::new().block_on(copy);
    bar.finish_and_clear();
    copied
}

fn files(transfer: &Transfer, dir: &std::path::Path) -> Files {
    Files::new(dir, Mode::of(transfer.dry_run))
}

fn database(transfer: &Transfer) -> Result<Database, ConfigError> {
    let database = config::database(&transfer.ledger, Mode::of(transfer.dry_run), &config::process_environment)?;
    database.ok_or_else(|| ConfigError::from(AddressError::Bad("it is missing".to_owned())))
}
