//! What the library logs on a test's own thread.

use log::{LevelFilter, Log, Metadata, Record};
use std::cell::RefCell;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Keeper;

impl Log for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        // A thread that ends has nobody left to read it.
        LINES.try_with(|lines| lines.borrow_mut().push(line)).ok();
    }

    fn flush(&self) {}
}

/// Keeps from now on what is logged.
pub(crate) fn keep() {
    // Another test of this process may have been first.
    drop(log::set_logger(&Keeper));
    log::set_max_level(LevelFilter::Info);
    LINES.with(|lines| lines.borrow_mut().clear());
}

/// How many lines with this text were logged on this thread.
pub(crate) fn count(text: &str) -> usize {
    LINES.with(|lines| lines.borrow().iter().filter(|line| line.contains(text)).count())
}
