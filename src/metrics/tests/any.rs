//! Any text and any completed run, as GitHub could tell of it.

use crate::event::{Attempt, Completed, Job, JobId, Key, Lasted, RUN_MAX_MS, RepoName, RunId, RunKey, Step};
use jiff::Timestamp;
use proptest::prelude::*;

/// Any script, emoji, control characters: a few of them, or more than a tag can hold.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[A-Za-z0-9 ._/:#+-]{1,40}",
        2 => any::<String>(),
        2 => prop::collection::vec(any::<char>(), 0..300).prop_map(String::from_iter),
        1 => "[_:!/ \u{1f680}]{1,6}",
        1 => "[\u{c0}-\u{24f}\u{300}-\u{36f}\u{900}-\u{97f}\u{3040}-\u{30ff}\u{4e00}-\u{4fff}]{150,260}",
    ]
}

/// A text that GitHub may leave out. An empty one counts as none.
fn field() -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.9, text()).prop_map(|text| text.filter(|text| !text.is_empty()))
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    // From the year 1 to 9999 in nanoseconds, or two hours of 2026 in whole seconds.
    let any = (-62_135_596_800..253_402_207_200_i64, 0..1_000_000_000_i32);
    let near = (1_772_470_000..1_772_477_200_i64, Just(0));
    prop::option::weighted(0.8, prop_oneof![any.boxed(), near.boxed()])
        .prop_map(|time| time.and_then(|(second, nanosecond)| Timestamp::new(second, nanosecond).ok()))
}

/// The way of a workflow's file, which holds no `@`, and the name of the workflow, which falls back to the file's.
fn workflow() -> impl Strategy<Value = (Option<String>, Option<String>)> {
    (field(), field()).prop_map(|(path, name)| {
        let path = path.map(|path| path.replace('@', "a"));
        let file_name = path.as_deref().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
        (path, name.or(file_name).filter(|name| !name.is_empty()))
    })
}

/// Any run or job that `event::parse` can make.
pub(crate) fn completed() -> impl Strategy<Value = Completed> {
    prop_oneof![completed_run(), completed_job()]
}

fn lasted() -> impl Strategy<Value = Lasted> {
    prop::option::of(0..=RUN_MAX_MS).prop_map(|ms| Lasted { ms, is_odd: false })
}

prop_compose! {
    fn step()(name in field(), conclusion in field(), duration in lasted()) -> Step {
        Step { name, conclusion, duration }
    }
}

prop_compose! {
    fn completed_job()(
        run in completed_run(),
        (id, attempt) in (any::<u64>(), 1..=u32::MAX),
        (of, name, runner_group) in (prop::option::of(any::<u64>()), field(), field()),
        labels in prop::collection::vec("[a-z0-9=/-]{1,20}|\\PC{1,20}", 0..4),
        created_at in time(),
        steps in prop::collection::vec(step(), 0..6),
        ended in prop_oneof![3 => Just(None), 1 => Just(Some("skipped")), 1 => Just(Some("cancelled"))],
    ) -> Completed {
        // GitHub's own words are in lower case: a text that only becomes one of them as a tag is none of them.
        let is_one = |text: &String| ["skipped", "cancelled"].contains(&text.to_lowercase().as_str());
        let conclusion = ended.map(str::to_owned).or(run.conclusion.clone().filter(|text| !is_one(text)));
        let ran = match ended {
            Some("skipped") => false,
            Some("cancelled") => !steps.is_empty(),
            _ => true,
        };
        let job = Job {
            run: of.map(RunId), attempt: Attempt(attempt.try_into().unwrap()), name, labels, runner: None, runner_group, created_at, ran, steps, steps_left_out: 0,
        };
        Completed {
            key: Key::Job(JobId(id)),
            conclusion,
            workflow_path: None, event: None, actor: None, triggering_actor: None,
            job: Some(job),
            ..run
        }
    }
}

prop_compose! {
    /// Any run that `event::parse` can make.
    pub(crate) fn completed_run()(
        (id, attempt) in (any::<u64>(), 1..=u32::MAX),
        (owner, name) in (field(), text().prop_filter("a repository has a name", |name| !name.is_empty())),
        (workflow_path, workflow) in workflow(),
        (event, branch, conclusion) in (field(), field(), field()),
        is_default: bool,
        (sender_type, sender, actor, triggering_actor) in (field(), field(), field(), field()),
        (started_at, ended_at) in (time(), time()),
    ) -> Completed {
        Completed {
            key: RunKey { id: RunId(id), attempt: Attempt(attempt.try_into().unwrap()) }.into(),
            repository: RepoName { owner, name },
            on_default_branch: is_default && branch.is_some(),
            workflow, workflow_path, event, branch, conclusion,
            sender_type, sender, actor, triggering_actor, started_at, ended_at,
            url: None,
            job: None,
        }
    }
}
