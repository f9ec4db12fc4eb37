//! Panics that strangers can cause.
//!
//! Invariant: no request that cannot be read puts a line into the log. actix-http takes for granted that a header's name which
//! its parser lets through is one, and panics where that is longer than 64 KiB. The panic ends the task of that connection
//! alone, for a task's panic is caught; but telling of it would let anyone fill the disk.

use std::panic::{self, PanicHookInfo};

#[cfg(not(panic = "unwind"))]
compile_error!(
    "a panic in the HTTP parser, which strangers can cause, must not end the process: build with panic=unwind"
);

/// Tells of no panic in the HTTP parser any more, and of each other one as before.
pub(crate) fn ignore_those_of_strangers() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if is_of_the_parser(info) {
            log::debug!("a connection has ended: {info}");
        } else {
            tell(info);
        }
    }));
}

fn is_of_the_parser(info: &PanicHookInfo<'_>) -> bool {
    info.location().is_some_and(|location| location.file().contains("actix-http-") && location.file().contains("/h1/"))
}
