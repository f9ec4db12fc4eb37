//! Each exchange as a line of JSON, for `validate.mjs`, which holds it to GitHub's description of its API.
//!
//! Invariant: what was ordered to go wrong is not in it, and no authorisation.

use crate::http::{Answer, Request};
use serde_json::{Value, json};
use std::{env, fs::OpenOptions, io::Write};

/// Names the file.
const VARIABLE: &str = "RUNHOUND_TEST_HUB_LOG";

/// Appends an exchange, if there is a file for it.
pub(super) fn write(request: &Request, answer: &Answer) {
    let Some(path) = env::var_os(VARIABLE) else {
        return;
    };
    let body = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let line = json!({
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "request": body(&request.body),
        "status": answer.status,
        "response": body(answer.body.as_bytes()),
    });
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the hub's log can be opened");
    file.write_all(format!("{line}\n").as_bytes()).expect("the hub's log can be written");
}
