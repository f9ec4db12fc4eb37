//! What is delivered: GitHub's real payload at its real size, each time with another ID and that ID's signature.
//!
//! No ID is used twice for one server.

use crate::{BODY_BYTES, FIRST_ID, secret};
use anyhow::{Context, Result};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::{
    cell::{Cell, RefCell},
    io::Write,
    rc::Rc,
    time::Duration,
    vec,
};

const FIXTURE: &str = include_str!("../../fixtures/01-success.json");
const WORKFLOWS: [&str; 8] = ["CI", "Release", "Nightly", "Docs", "Lint", "Audit", "Deploy", "Stale issues"];

/// The deliveries of one workflow. A number of them is signed ahead, so that signing takes nothing from what is
/// measured; those beyond it are signed as they go.
pub(crate) struct Orders {
    request: Vec<u8>,
    id_at: usize,
    signature_at: usize,
    begun: Hmac<Sha256>,
    ids: Rc<Cell<u64>>,
    ahead: vec::IntoIter<Signed>,
}

struct Signed {
    id: u64,
    signature: [u8; 64],
}

pub(crate) type Shared = Rc<RefCell<Orders>>;

impl Orders {
    /// Those of several workflows, one for each connection where there are so many, with about so many signed ahead in
    /// all.
    pub(crate) fn of_workflows(connections: usize, ids: &Rc<Cell<u64>>, ahead: usize) -> Result<Vec<Shared>> {
        let end = jiff::Timestamp::now();
        let workflows = &WORKFLOWS[..WORKFLOWS.len().min(connections)];
        let of_one = |workflow: &&str| {
            let orders = Self::new(workflow, end, Rc::clone(ids), ahead.div_ceil(workflows.len()))?;
            Ok(Rc::new(RefCell::new(orders)))
        };
        workflows.iter().map(of_one).collect()
    }

    fn new(workflow: &str, end: jiff::Timestamp, ids: Rc<Cell<u64>>, ahead: usize) -> Result<Self> {
        let body = body(workflow, end)?;
        let id_in_body = body.find(&format!("\"id\":{FIRST_ID},")).context("no ID in the payload")? + "\"id\":".len();
        let head = "POST /webhook HTTP/1.1\r\nHost: runhound.example.com\r\nUser-Agent: GitHub-Hookshot/7c04f2e\r\n\
             Accept: */*\r\nContent-Type: application/json\r\nX-GitHub-Event: workflow_run\r\n\
             X-GitHub-Delivery: 54327c40-fa02-11f1-9f86-53949f28b0ba\r\nX-Hub-Signature-256: sha256=";
        let rest = format!("{:064}\r\nContent-Length: {}\r\n\r\n", 0, body.len());
        let mut orders = Self {
            request: [head, &rest, &body].concat().into_bytes(),
            id_at: head.len() + rest.len() + id_in_body,
            signature_at: head.len(),
            begun: secret().chain_update(&body[..id_in_body]),
            ids,
            ahead: Vec::new().into_iter(),
        };
        let ahead = (0..ahead).map(|_| orders.sign()).collect::<Result<Vec<_>>>()?;
        orders.ahead = ahead.into_iter();
        Ok(orders)
    }

    fn sign(&mut self) -> Result<Signed> {
        let id = self.ids.replace(self.ids.get() + 1);
        write!(&mut self.request[self.id_at..], "{id}")?;
        let digest = self.begun.clone().chain_update(&self.request[self.id_at..]).finalize().into_bytes();
        let mut signature = [0; 64];
        hex::encode_to_slice(digest, &mut signature)?;
        Ok(Signed { id, signature })
    }

    /// A request for one connection to fill in over and over.
    pub(crate) fn blank(&self) -> Vec<u8> {
        self.request.clone()
    }

    /// Makes the next delivery of a blank.
    pub(crate) fn fill_in(&mut self, request: &mut [u8]) -> Result<()> {
        let Signed { id, signature } = match self.ahead.next() {
            Some(signed) => signed,
            None => self.sign()?,
        };
        write!(&mut request[self.id_at..], "{id}")?;
        request[self.signature_at..self.signature_at + signature.len()].copy_from_slice(&signature);
        Ok(())
    }
}

/// A real payload with `FIRST_ID` in it, which ended just now, padded by its commit's message.
pub(crate) fn body(workflow: &str, end: jiff::Timestamp) -> Result<String> {
    let mut payload = serde_json::from_str::<Value>(FIXTURE)?["request"]["payload"].take();
    payload["workflow"]["name"] = workflow.into();
    payload["workflow_run"]["id"] = FIRST_ID.into();
    payload["workflow_run"]["updated_at"] = format!("{end:.0}").into();
    payload["workflow_run"]["run_started_at"] = format!("{:.0}", end - Duration::from_secs(272)).into();
    let missing = BODY_BYTES.saturating_sub(payload.to_string().len());
    let message = &mut payload["workflow_run"]["head_commit"]["message"];
    *message = format!("{}{}", message.as_str().unwrap_or_default(), ".".repeat(missing)).into();
    Ok(payload.to_string())
}
