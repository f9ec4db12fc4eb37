//! From a request to its answer and what follows from it: the one place where a hub locks, waits and sends.
//!
//! Invariant: a delivery that follows from an answer is counted as under way before the answer is given.

use super::{
    deliveries::{Delivery, Errand},
    faults::{self, Asked, Order},
    post::{self, Outcome},
    record,
    state::State,
};
use crate::http::{Answer, Request};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// What the connections' threads share with the tests.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Condvar,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a rule panicked in the hub")
    }

    /// Answers, or does not.
    pub(super) fn handle(self: &Arc<Self>, request: &Request) -> Option<Answer> {
        let mut state = self.lock();
        let asked = Asked::of(request);
        let order = faults::take(&mut state.orders, &asked);
        let index = state.requests.len();
        state.requests.push(asked);
        let answer = match &order {
            None | Some(Order::ActThenReset) => {
                let reply = state.act(request);
                let answer = reply.answer();
                record::write(request, &answer);
                self.begin(&mut state, reply.errands);
                Some(answer).filter(|_| order.is_none())
            }
            Some(ordered) => ordered.answer(),
        };
        let answer = answer.map(|mut answer| {
            state.finish(&mut answer);
            answer
        });
        state.requests[index].answered = answer.as_ref().map(|answer| answer.status);
        self.changed.notify_all();
        if order == Some(Order::Hang) {
            let begun = state.releases;
            drop(self.changed.wait_while(state, |state| state.releases == begun && !state.is_stopped));
        }
        answer
    }

    /// Delivers, each on a thread of its own.
    fn begin(self: &Arc<Self>, state: &mut State, errands: Vec<Errand>) {
        for errand in errands {
            state.under_way += 1;
            let shared = Arc::clone(self);
            thread::spawn(move || {
                shared.deliver(&errand);
                shared.lock().under_way -= 1;
                shared.changed.notify_all();
            });
        }
    }

    /// Delivers and logs it; `None` if the hook is gone.
    pub(super) fn deliver(&self, errand: &Errand) -> Option<Delivery> {
        let post = self.lock().post(errand)?;
        let outcome = post::send(&post);
        let delivery = self.lock().log(errand, post, outcome);
        self.changed.notify_all();
        Some(delivery)
    }

    /// Logs a delivery that ended with this status, or without an answer if it is 0, and makes none.
    pub(super) fn pretend(&self, errand: &Errand, status_code: u16) -> Option<Delivery> {
        let mut state = self.lock();
        let post = state.post(errand)?;
        let delivery = state.log(errand, post, Outcome::of(status_code));
        self.changed.notify_all();
        Some(delivery)
    }

    /// Lets go of those that hang.
    pub(super) fn release(&self) {
        self.lock().releases += 1;
        self.changed.notify_all();
    }

    /// From now on nothing hangs. It works on a state that a panic has left behind, too.
    pub(super) fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_stopped = true;
        self.changed.notify_all();
    }
}
