//! An error in one line, with its causes.

use std::error::Error;

/// An error and its causes: `WHAT: CAUSE`.
#[must_use]
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| {
        let error: &(dyn Error + 'static) = *error;
        error.source()
    });
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_what_they_caused() {
        let error = crate::ledger::FileError::Io {
            path: "journal.jsonl".into(),
            source: std::io::Error::other("the disk failed"),
        };
        assert_eq!(explain(&error), "journal.jsonl: the disk failed");
    }
}
