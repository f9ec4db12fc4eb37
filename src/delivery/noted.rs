//! What an answer tells beside its verdict: the time, and that somebody answers.

use super::{APART_MAX_S, Delivery, Moment, Shown, Step, push};
use crate::{
    datadog::{Answer, Intake, Verdict},
    vitals::Answered,
};

impl<I: Intake> Delivery<I> {
    /// Whatever the status of the answer, it tells the time, and that somebody answers.
    pub(super) async fn ask_for_the_time(&mut self) -> Step {
        let Some(client) = &self.client else {
            return Step::Idle;
        };
        let asked = (self.clock)();
        let answer = client.validate().await;
        let is_passing_fault = matches!(answer.verdict, Verdict::Retry { is_unexpected: false, .. });
        let is_fine = answer.status.is_some() && answer.verdict != Verdict::Denied && !is_passing_fault;
        self.asks_again_at = (!is_fine).then_some(asked.monotonic + push::HELD);
        self.note("validate", &answer, (0, 0), asked, is_fine);
        match answer.status {
            Some(401 | 403) => log::error!("{}: runs are kept, and pushed once the API key is mended", Shown(&answer)),
            Some(_) => {}
            None => {
                log::warn!("Datadog does not answer: {}", answer.text);
                return self.back_off(None);
            }
        }
        self.backoff.reset();
        self.learn_the_time(&answer, (self.clock)());
        Step::Moved
    }

    /// Lets the operator know of an answer to a request that was made at `asked`, with so many runs and points.
    pub(super) fn note(
        &self,
        request: &'static str,
        answer: &Answer,
        (runs, points): (usize, usize),
        asked: Moment,
        is_fine: bool,
    ) {
        let moment = (self.clock)();
        let took = moment.monotonic.saturating_sub(asked.monotonic);
        let answered = Answered {
            at: moment.timestamp(),
            request,
            verdict: answer.verdict.name(),
            status: answer.status,
            text: answer.text.clone(),
            runs,
            points,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        self.ledger.vitals().datadog(answered, is_fine);
    }

    pub(super) fn learn_the_time(&mut self, answer: &Answer, moment: Moment) {
        self.now.learn(answer.date, moment);
        if let Some(date) = answer.date {
            let apart = date - moment.unix;
            if apart.abs() > APART_MAX_S {
                self.asks_again_at = Some(moment.monotonic + push::HELD);
            }
            self.ledger.vitals().clock_apart(apart);
        }
    }
}
