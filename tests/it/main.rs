//! The whole of runhound, for real: its server over loopback, a GitHub that signs, and an intake that keeps Datadog's
//! rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::print_stdout,
    clippy::print_stderr,
    dead_code,
    unreachable_pub,
    reason = "this is a test from its first line to its last, and its harness offers more than one test needs"
)]

mod github;
mod harness;
mod http;
mod hub;
mod intake;
mod logged;

mod admin;
mod answers;
mod commands;
mod cost;
mod delivery;
mod deploy;
mod documents;
mod exactly_once;
mod faults;
mod healing;
mod hostile;
mod jobs;
mod kills;
mod logs;
mod packaged;
mod page;
mod plan;
mod postgres;
mod shutdown;
mod socket;
