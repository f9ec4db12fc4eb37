//! The catalogue of metrics and tags, printed: for people, or for programs such as one that sets Datadog's metadata.

use crate::{
    cli::{self, Format},
    config::{self, ConfigError},
    metrics::Catalogue,
};
use std::io::{self, Write};

/// The catalogue cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// Something in the configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody reads it.
    #[error("standard output")]
    Output(#[from] io::Error),
}

impl DescribeError {
    /// What to do about it, where something can be said.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Config(error) => Some(error.hint()),
            Self::Output(_) => None,
        }
    }
}

/// Prints what a service with these arguments sends.
///
/// # Errors
/// The configuration is wrong, or nobody reads.
pub fn describe(arguments: &cli::Metrics) -> Result<(), DescribeError> {
    let catalogue = Catalogue::new(&config::tagging(&arguments.tags, &config::process_environment)?);
    let mut out = io::stdout().lock();
    match arguments.format {
        Format::Table => write!(out, "{catalogue}")?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &catalogue).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}
