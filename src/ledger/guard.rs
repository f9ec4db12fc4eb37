//! The limit on series, as whoever keeps a ledger applies it and tells of it.

use super::record::Record;
use crate::metrics::{Run, SeriesGuard};
use std::sync::Arc;

/// Decides the tags of a run that is accepted now; its line follows them.
pub(super) fn bound(guard: &mut SeriesGuard, run: Arc<Run>, line: Vec<u8>, now: i64) -> (Arc<Run>, Vec<u8>) {
    let bounded = guard.bound(&run, now);
    for capped in bounded.capped {
        log::warn!("{capped}");
    }
    if bounded.tag_set == run.tag_set {
        return (run, line);
    }
    let run = Arc::new(run.tagged(bounded.tag_set, bounded.job));
    let line = Record::Accept(Arc::clone(&run)).line();
    (run, line)
}

/// Forgets what is old, and says which tags are no longer capped.
pub(super) fn forget(guard: &mut SeriesGuard, now: i64) {
    for key in guard.forget(now) {
        log::info!("fewer series again: new values of the tag {key} are sent as they are");
    }
}
