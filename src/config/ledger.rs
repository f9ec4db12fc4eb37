//! Where the ledger is.

use super::{ConfigError, Environment, variable};
use crate::{
    cli::LedgerArgs,
    ledger::{Database, Mode},
};

/// The database that has the ledger, if it is not in files.
///
/// # Errors
/// It cannot be one, or its password stands where it must not.
pub fn database(
    arguments: &LedgerArgs,
    mode: Mode,
    environment: Environment<'_>,
) -> Result<Option<Database>, ConfigError> {
    let Some(url) = arguments.url() else {
        return Ok(None);
    };
    let password = variable(environment, "PGPASSWORD")?;
    let file = arguments.ledger_password_file.as_deref();
    Ok(Some(Database::new(url, mode, file, password.as_deref(), arguments.ledger_retention)?))
}
