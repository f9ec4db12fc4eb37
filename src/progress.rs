//! Progress on a terminal; nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for so many of something.
pub(crate) fn bar(len: usize, what: &str) -> ProgressBar {
    styled(ProgressBar::new(len as u64), &format!("{{bar:40}} {{pos}}/{{len}} {what}, {{eta}} left"))
}

/// The same where nobody knows how many there are.
pub(crate) fn counter(what: &str) -> ProgressBar {
    styled(ProgressBar::no_length(), &format!("{{pos}} {what}"))
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
