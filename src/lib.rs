//! GitHub Actions workflow runs, delivered to Datadog exactly once.
//!
//! The rooms, in the order in which a delivery walks through them: its [`signature`] is verified, its bytes become an
//! [`event`], the run gets its tags ([`metrics`]), the [`ledger`] records it, and [`delivery`] pushes it to
//! [`datadog`]. [`receiver`] is the door, [`serve`] the whole house.
//!
//! For other programs there are the plan's two classes: [`WorkflowCache`] and [`DatadogService`].

pub mod signature;

pub mod event;

pub mod metrics;

pub mod vitals;

pub mod ledger;

mod outgoing;

pub mod datadog;

pub mod delivery;

pub mod watched;

pub mod secrets;

pub mod tls;

pub mod limits;

mod panics;

mod answers;

pub mod receiver;

pub mod admin;

pub mod config;

pub mod cli;

mod inlet;

pub mod github;

mod holes;

mod progress;

mod cost;

mod systemd;

pub mod serve;

pub mod replay;

pub mod healing;

pub mod transfer;

pub mod check;

pub mod describe;

pub mod healthcheck;

pub mod generate;

pub mod logging;

pub mod explain;

pub use datadog::DatadogService;
pub use ledger::WorkflowCache;

#[cfg(test)]
mod simulation;
