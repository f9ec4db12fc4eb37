//! The whole house in a world that is simulated to the last byte: disk, intake, clocks.
//!
//! Ledger and delivery are the real ones, down to the text of their files; only what is outside is made here. Nothing
//! runs at its own time, so that whatever happens can happen again: one thread, no sleep, all chance from a seed.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::print_stdout,
    reason = "counts are small whole numbers, of which Datadog makes floats; what was tried is printed"
)]

mod act;
mod disk;
mod house;
mod intake;
mod model;

mod campaign;
mod crashes;
mod faults;
mod golden;
mod repairs;
mod rules;
