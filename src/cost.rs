//! What metrics cost, in the log: how many distinct series there are, at the start and once a day.
//!
//! Invariant: it never sleeps; `step` does what is due.

use crate::{
    delivery::Clock,
    ledger::{Ledger, Unavailable},
    metrics::SeriesCount,
};
use std::time::Duration;

/// How long to wait between two steps, so that what is known of series is kept up on disk.
pub(crate) const STEP_EVERY: Duration = Duration::from_secs(60);

/// How long to wait between two lines in the log: a day.
const TELL_EVERY: Duration = Duration::from_secs(86_400);

/// Counts series and tells of them.
#[derive(Debug)]
pub(crate) struct Cost {
    ledger: Ledger,
    clock: Clock,
    told_at: Option<Duration>,
}

impl Cost {
    pub(crate) const fn new(ledger: Ledger, clock: Clock) -> Self {
        Self { ledger, clock, told_at: None }
    }

    /// Counts, and tells it if that is due: what was told.
    ///
    /// # Errors
    /// The ledger's thread is gone.
    pub(crate) async fn step(&mut self) -> Result<Option<SeriesCount>, Unavailable> {
        let moment = (self.clock)();
        let count = self.ledger.count_series(moment.unix).await?;
        let is_due = self.told_at.is_none_or(|at| moment.monotonic.saturating_sub(at) >= TELL_EVERY);
        if !is_due {
            return Ok(None);
        }
        self.told_at = Some(moment.monotonic);
        log::info!("cost: {count}");
        Ok(Some(count))
    }

    /// Takes a step each minute, for as long as there is a ledger.
    pub(crate) async fn run(mut self) {
        while self.step().await.is_ok() {
            tokio::time::sleep(STEP_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::Moment,
        ledger::{Files, Mode, Opened, Options, Reruns},
        metrics::tests::{completed, tagging},
    };
    use std::sync::{Arc, Mutex};

    #[actix_web::test]
    async fn the_count_is_told_at_the_start_and_once_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let start = 1_800_000_000;
        let options = Options::new(Files::new(dir.path(), Mode::Live), Reruns::Push, start);
        let Opened { ledger, owner, .. } = Ledger::open(options).unwrap();
        let time = Arc::new(Mutex::new(Moment { monotonic: Duration::ZERO, unix: start }));
        let read = Arc::clone(&time);
        let mut cost = Cost::new(ledger.clone(), Clock::new(move || *read.lock().unwrap()));
        let count = |last_hour, last_30_days| Some(SeriesCount { last_hour, last_30_days });
        assert_eq!(cost.step().await.unwrap(), count(0, 0));
        ledger.accept(tagging().run(&completed(), start), start).await.unwrap();
        let pass = |seconds: u32| {
            let mut moment = time.lock().unwrap();
            moment.monotonic += Duration::from_secs(seconds.into());
            moment.unix += i64::from(seconds);
        };
        pass(86_399);
        assert_eq!(cost.step().await.unwrap(), None);
        pass(1);
        assert_eq!(cost.step().await.unwrap(), count(0, 4));
        assert_eq!(cost.step().await.unwrap(), None);
        // A redelivery makes nothing new.
        ledger.accept(tagging().run(&completed(), start), start + 86_400).await.unwrap();
        pass(86_400);
        assert_eq!(cost.step().await.unwrap(), count(0, 4));
        ledger.accept(tagging().run(&completed(), start), start + 2 * 86_400).await.unwrap();
        assert_eq!(ledger.count_series(start + 2 * 86_400).await.unwrap().last_hour, 0, "not by a redelivery");
        drop((cost, ledger));
        owner.join().unwrap();
    }
}
