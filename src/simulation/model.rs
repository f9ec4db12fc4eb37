//! What must be true, whatever happens: a model of what the answers have promised.

use super::{
    disk::{Image, SimDisk},
    house::{House, START, Settings, files},
    intake::{POISON, SimIntake, State, TOTALS},
};
use crate::{
    delivery::Step,
    event::Key,
    explain::explain,
    ledger::{Accepted, FileError, OpenError, Reruns, Unavailable},
    metrics::{JobTimes, Run, Subject, TagSet},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const DURATION_TOTALS: [&str; 2] =
    ["github.actions.workflow_run.duration_second_total", "github.actions.job.duration_second_total"];

const STEP_TOTAL: &str = "github.actions.step.total";

/// More steps than any backlog here takes.
const STEPS_MAX: usize = 2_000;

/// The tag sets of the runs, by their IDs.
const WORKFLOWS: [&str; 4] = ["workflow_name:ci", "workflow_name:docs", "workflow_name:nightly", POISON];

/// What the answers so far say of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Nobody was told that it is recorded, but it may be.
    Unsure,
    /// Somebody was told so.
    Recorded,
}

/// A house, and what must be true of it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) house: House,
    pub(super) settings: Settings,
    pub(super) random: fastrand::Rng,
    runs: BTreeMap<Key, Known>,
    /// The IDs that were in the cache when a mark was answered, in their order.
    marked: Vec<String>,
    /// Whether a batch can have become too old to be repeated.
    pub(super) is_slow: bool,
    /// Whether a process has ended, and with it the knowledge of how its last try did.
    was_interrupted: bool,
    /// How many answers have been given so far.
    pub(super) answers: usize,
}

pub(super) fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn id(key: Key) -> u64 {
    match key {
        Key::Run(key) => key.id.0,
        Key::Job(key) => key.0,
    }
}

fn workflow(key: Key) -> &'static str {
    WORKFLOWS[usize::try_from(id(key) % 4).unwrap()]
}

fn is_poisoned(key: Key) -> bool {
    workflow(key) == POISON
}

/// The steps of a job: of one workflow some have the same ones, whatever their own conclusion, and some more of them.
fn steps(key: Key) -> Vec<Vec<String>> {
    let step = |conclusion: &str, name: &str| vec![format!("conclusion:{conclusion}"), format!("step_name:{name}")];
    let all = vec![step("failure", "test"), step("success", "build"), step("success", "build")];
    match key {
        Key::Run(_) => Vec::new(),
        Key::Job(job) => all.into_iter().skip(usize::try_from(job.0 / 4 % 4).unwrap()).collect(),
    }
}

fn duration_s(key: Key) -> u32 {
    u32::try_from(id(key) % 90).unwrap() + 1
}

impl World {
    pub(super) fn new(settings: Settings, start: &Image) -> Self {
        let mut house = House::new(settings);
        house.disk = SimDisk::of(start);
        Self {
            settings,
            random: fastrand::Rng::with_seed(1),
            runs: BTreeMap::new(),
            marked: house.sent().unwrap_or_default(),
            house,
            is_slow: false,
            was_interrupted: false,
            answers: 0,
        }
    }

    /// The same world at the next start after a crash that left this.
    pub(super) fn after_crash(&self, image: &Image) -> Self {
        let mut house = House::new(self.settings);
        house.intake = SimIntake::of(self.house.intake.with(|state| state.clone()));
        let mut world = Self {
            house,
            settings: self.settings,
            random: self.random.clone(),
            runs: self.runs.clone(),
            marked: self.marked.clone(),
            is_slow: self.is_slow,
            was_interrupted: true,
            answers: self.answers,
        };
        world.crash_to(image);
        world
    }

    pub(super) fn crash_to(&mut self, image: &Image) {
        self.kill();
        self.house.crash_to(image);
    }

    /// Ends the process, and with it the knowledge of how its last try did.
    pub(super) fn kill(&mut self) {
        self.was_interrupted = true;
        self.house.kill();
        self.house.intake.with(State::doubt_recent);
    }

    /// Starts the process. No crash may look like damage; a disk that fails is mended first.
    pub(super) fn start(&mut self) -> Option<()> {
        loop {
            match self.house.open()? {
                Ok(()) => return Some(()),
                Err(OpenError::File(FileError::Damaged { path, offset, what })) => {
                    panic!("refused to start: {} at {offset}: {what}", path.display())
                }
                Err(error) if !self.house.disk.is_failing() => panic!("refused to start: {}", explain(&error)),
                Err(_) => self.house.disk.mend(),
            }
        }
    }

    /// A start after a crash, and everything that must hold then and later.
    pub(super) fn start_and_check(mut self) {
        let checked = self.start().and_then(|()| self.check_start()).and_then(|()| self.check());
        checked.expect("nothing crashes by itself");
    }

    /// Loses power, or is only killed, and starts again, until a start gets through.
    pub(super) fn crash_anyhow(&mut self, random: &mut fastrand::Rng) {
        loop {
            if random.u8(0..4) == 0 {
                self.kill();
            } else {
                let image = self.house.disk.any_image(random);
                self.crash_to(&image);
            }
            self.house.intake.with(|state| state.fates.clear());
            if random.u8(0..4) == 0 {
                self.house.disk.crash_after(random.usize(1..8));
            }
            if self.start().and_then(|()| self.check_start()).is_some() {
                return;
            }
        }
    }

    fn run(&self, key: Key) -> Run {
        let now = self.house.intake.with(|state| state.now);
        let end = match id(key) % 11 {
            0 => now - 90_000,
            1 => now + 90_000,
            late => now - i64::try_from(late).unwrap() * 40,
        };
        let steps = steps(key);
        let (subject, conclusion) = match key {
            Key::Run(_) => (Subject::Run, "success"),
            Key::Job(job) => (Subject::Job, if job.0 / 4 % 2 == 0 { "success" } else { "failure" }),
        };
        let tags = vec![format!("conclusion:{conclusion}"), workflow(key).to_owned()];
        let tag_set = TagSet { prefix: "github.actions".to_owned(), subject, tags, steps };
        Run {
            key,
            end,
            duration_ms: Some(u64::from(duration_s(key)) * 1000),
            job: (!tag_set.steps.is_empty())
                .then(|| JobTimes { queued_ms: None, steps_ms: vec![Some(1000); tag_set.steps.len()] }.into()),
            tag_set: Arc::new(tag_set),
        }
    }

    /// What stands for a run in the model: where re-runs are dropped, its attempts are one.
    fn identity(&self, key: Key) -> Key {
        match self.settings.reruns {
            Reruns::Push => key,
            Reruns::Drop => key.first_attempt(),
        }
    }

    /// Delivers runs at the same moment, and holds the answers against what was promised.
    pub(super) fn deliver(&mut self, keys: &[Key]) -> Option<Vec<Result<Accepted, Unavailable>>> {
        let runs = keys.iter().map(|key| self.run(*key)).collect();
        let answers = self.house.accept(runs);
        for (index, key) in keys.iter().enumerate() {
            match &answers {
                Some(answers) => self.learn(*key, &answers[index]),
                None => _ = self.runs.entry(self.identity(*key)).or_insert(Known::Unsure),
            }
        }
        answers
    }

    /// Delivers runs one by one, and promises nothing.
    pub(super) fn redeliver(&mut self, keys: &[Key]) -> Vec<Accepted> {
        keys.iter().map(|key| self.house.accept(vec![self.run(*key)]).unwrap().remove(0).unwrap()).collect()
    }

    /// Holds an answer against what was promised before.
    fn learn(&mut self, key: Key, answer: &Result<Accepted, Unavailable>) {
        self.answers += 1;
        let identity = self.identity(key);
        let known = self.runs.get(&identity).copied();
        match (known, answer) {
            (Some(Known::Recorded), Ok(Accepted::Duplicate)) => {}
            (Some(Known::Recorded), Ok(Accepted::New) | Err(_)) if self.rejected().contains(&identity) => {}
            (Some(Known::Recorded), other) => panic!("{key} is recorded and not rejected, and now {other:?}"),
            (None, Ok(Accepted::Duplicate)) => panic!("{key} never came, and is a duplicate"),
            (Some(Known::Unsure) | None, _) => {}
        }
        let now = if answer.is_ok() { Known::Recorded } else { known.unwrap_or(Known::Unsure) };
        self.runs.insert(identity, now);
    }

    pub(super) fn step(&mut self) -> Option<Step> {
        let step = self.house.step()?;
        self.answers += 1;
        if matches!(step, Step::Pushed { .. }) {
            self.marked = self.house.sent().expect("a cache that was marked is valid");
        }
        if matches!(step, Step::Idle) {
            self.house.intake.with(State::forget_recent);
        }
        Some(step)
    }

    /// Steps until there is nothing to do at once.
    pub(super) fn go(&mut self) -> Option<()> {
        for _ in 0..STEPS_MAX {
            if matches!(self.step()?, Step::Idle | Step::Wait(_)) {
                return Some(());
            }
        }
        panic!("the delivery goes on and on");
    }

    /// Right after a start: what was promised holds, and what was marked was taken.
    pub(super) fn check_start(&mut self) -> Option<()> {
        let sent = self.house.sent().expect("after a start the cache is valid");
        assert!(sent.starts_with(&self.marked), "{:?} were marked, and now {sent:?}", self.marked);
        for tag in WORKFLOWS {
            let marked = sent.iter().filter_map(|id| id.parse().ok()).filter(|key| workflow(*key) == tag).count();
            let stored = self.house.intake.with(|state| state.sum(&TOTALS, tag)) as usize;
            assert!(marked <= stored + self.foreign(tag), "{tag}: {marked} are marked, {stored} were taken");
        }
        let recorded: Vec<Key> =
            self.runs.iter().filter(|(_, known)| **known == Known::Recorded).map(|(key, _)| *key).collect();
        self.deliver(&recorded).map(|_| ())
    }

    /// IDs that stood in the cache before the first start.
    fn foreign(&self, tag: &str) -> usize {
        let known = |key: &Key| self.runs.contains_key(key);
        let sent = self.marked.iter().filter_map(|id| id.parse().ok());
        sent.filter(|key| !known(key) && workflow(*key) == tag).count()
    }

    /// Everything works again, everything is redelivered, and all of it is sent.
    pub(super) fn catch_up(&mut self) -> Option<()> {
        self.house.disk.mend();
        self.house.intake.with(|state| {
            state.fates.clear();
            state.is_poisonable = false;
            state.payload_max_bytes = None;
        });
        if !self.house.is_open() {
            self.start()?;
        }
        let keys: Vec<Key> = self.runs.keys().copied().collect();
        self.deliver(&keys)?;
        assert!(self.runs.values().all(|known| *known == Known::Recorded), "not everything is accepted");
        self.send_everything()
    }

    /// Goes on, as time passes, until nothing is pending and nothing is on its way.
    pub(super) fn send_everything(&mut self) -> Option<()> {
        for _ in 0..STEPS_MAX {
            match self.step()? {
                Step::Idle => break,
                // Whole seconds, for the intake's clock has no others.
                Step::Wait(wait) => self.house.pass(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
                Step::Moved | Step::Pushed { .. } => {}
            }
        }
        assert_eq!(self.house.standing().pending, 0, "not everything was sent");
        self.house.intake.with(|state| state.land_late(&mut self.random));
        Some(())
    }

    /// The runs in the file of what was rejected. A line that a crash has torn tells nothing.
    fn rejected(&self) -> BTreeSet<Key> {
        let text = self.house.disk.text(&files().rejected).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        let keys = lines.filter_map(|line: serde_json::Value| line["key"].as_str()?.parse().ok());
        keys.map(|key| self.identity(key)).collect()
    }

    /// Everything is sent: each run was counted once, and is known.
    pub(super) fn check_end(&mut self) {
        let rejected = self.rejected();
        assert!(rejected.iter().all(|key| is_poisoned(*key)), "rejected: {rejected:?}");
        let is_exact = !self.is_slow;
        self.house.intake.with(|state| {
            assert!(state.overwritten.is_empty(), "{:#?}", state.overwritten);
            for tag in WORKFLOWS {
                let of_tag: Vec<Key> = self.runs.keys().copied().filter(|key| workflow(*key) == tag).collect();
                let (counted, expected) = (state.sum(&TOTALS, tag), of_tag.len() as f64);
                let most = if is_exact { expected } else { expected + state.doubtful(tag) };
                let least = expected - of_tag.iter().filter(|key| rejected.contains(key)).count() as f64;
                assert!((least..=most).contains(&counted), "{tag}: {counted} for {least} to {most} runs");
                if counted == expected {
                    let seconds: u32 = of_tag.iter().map(|key| duration_s(*key)).sum();
                    assert_eq!(state.sum(&DURATION_TOTALS, tag), f64::from(seconds), "{tag}");
                    let steps: usize = of_tag.iter().map(|key| steps(*key).len()).sum();
                    assert_eq!(state.sum(&[STEP_TOTAL], tag), steps as f64, "{tag}");
                }
            }
        });
        // A refused slot may have been taken before it was refused.
        if is_exact && !self.was_interrupted && !self.runs.keys().any(|key| is_poisoned(*key)) {
            assert_eq!(self.house.totals().in_doubt, 0);
        }
        let sent = self.house.sent().expect("a valid cache");
        let known: BTreeSet<Key> = sent.iter().filter_map(|id| id.parse().ok()).map(|key| self.identity(key)).collect();
        let mut unknown = self.runs.keys().filter(|key| !rejected.contains(key) && !known.contains(key));
        assert_eq!(unknown.next(), None, "{sent:?} are known");
        assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), sent.len(), "{sent:?}");
        self.check_text();
    }

    /// The cache is laid out as the plan's program lays it out, once something was marked.
    fn check_text(&self) {
        if self.runs.is_empty() {
            return;
        }
        let text = String::from_utf8(self.house.disk.text(&files().cache).unwrap()).unwrap();
        let sent = serde_json::json!({ "sent": self.house.sent() });
        let pretty = serde_json::to_string_pretty(&sent).unwrap();
        let ours = pretty.strip_prefix("{\n").unwrap();
        assert!(text.starts_with("{\n") && text.ends_with(ours), "{text}");
    }

    /// Catches up and holds everything against what was promised, also after one more start.
    pub(super) fn check(&mut self) -> Option<()> {
        self.catch_up()?;
        self.check_end();
        self.house.close()?;
        let before = self.house.disk.seen();
        self.start()?;
        let mut after = self.house.disk.seen();
        after.extend(before.get(&files().lock).map(|lock| (files().lock, lock.clone())));
        assert_eq!(after, before, "a start with nothing to mend changes nothing");
        self.check_start()
    }

    /// The second it is at Datadog, since the beginning.
    pub(super) fn passed(&self) -> i64 {
        self.house.intake.with(|state| state.now) - START
    }
}
