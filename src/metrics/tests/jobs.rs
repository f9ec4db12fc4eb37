use super::*;
use crate::metrics::metric::Subject;

fn with(detail: Detail) -> Tagging {
    Tagging { detail, ..tagging() }
}

/// Every entry: its name without the prefix, the value of its one point, and what its tags have that the job's have not.
fn rows(runs: &[Run]) -> Vec<(String, f64, Vec<String>)> {
    let slots: Vec<Slot> = vec![Slot {
        second: END,
        runs: runs.iter().map(|run| Arc::new(run.tagged(Arc::clone(&run.tag_set), run.job.clone()))).collect(),
    }];
    let job_tags = &runs[0].tag_set.tags;
    let row = |entry: Series| {
        let name = entry.metric.strip_prefix("github.actions.").unwrap().to_owned();
        assert_eq!(entry.points.len(), 1);
        let own = entry.tags.iter().filter(|tag| !job_tags.contains(tag)).cloned().collect();
        (name, entry.points[0].value, own)
    };
    payload(&slots).series.into_iter().map(row).collect()
}

fn expected(rows: &[(&str, f64, &[&str])]) -> Vec<(String, f64, Vec<String>)> {
    let own = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
    rows.iter().map(|(name, value, tags)| ((*name).to_owned(), *value, own(tags))).collect()
}

#[test]
fn a_job_makes_six_metrics_with_its_time_in_the_queue() {
    let run = with(Detail::Jobs).run(&completed_job(), 0);
    assert_eq!((run.end, run.queued_ms(), run.duration_ms), (END, Some(8_000), Some(50_000)));
    let six = [
        ("job.total", 1.0, &[][..]),
        ("job.conclusion.success_total", 1.0, &[]),
        ("job.queued_duration_second", 8.0, &[]),
        ("job.queued_duration_second_total", 8.0, &[]),
        ("job.duration_second", 50.0, &[]),
        ("job.duration_second_total", 50.0, &[]),
    ];
    assert_eq!(rows(&[run]), expected(&six));
}

#[test]
fn a_job_that_never_ran_is_counted_and_nothing_else() {
    let mut completed = completed_job();
    completed.conclusion = Some("skipped".to_owned());
    completed.job.as_mut().unwrap().ran = false;
    let run = with(Detail::Jobs).run(&completed, 0);
    assert_eq!(rows(&[run]), expected(&[("job.total", 1.0, &[]), ("job.conclusion.skipped_total", 1.0, &[])]));
}

#[test]
fn a_step_makes_four_metrics_with_its_jobs_tags_its_name_and_its_own_conclusion() {
    let rows = rows(&[with(Detail::Steps).run(&completed_job(), 0)]);
    let steps = [
        ("step.total", 1.0, &["step_name:check_out"][..]),
        ("step.conclusion.success_total", 1.0, &["step_name:check_out"]),
        ("step.duration_second", 5.0, &["step_name:check_out"]),
        ("step.duration_second_total", 5.0, &["step_name:check_out"]),
        ("step.total", 1.0, &["step_name:test"]),
        ("step.conclusion.success_total", 1.0, &["step_name:test"]),
        ("step.duration_second", 40.0, &["step_name:test"]),
        ("step.duration_second_total", 40.0, &["step_name:test"]),
        ("step.total", 1.0, &["conclusion:skipped", "step_name:publish"]),
        ("step.conclusion.skipped_total", 1.0, &["conclusion:skipped", "step_name:publish"]),
    ];
    let mut of_steps: Vec<_> = rows.iter().filter(|row| row.0.starts_with("step.")).cloned().collect();
    of_steps.sort_by(|a, b| a.2.last().cmp(&b.2.last()));
    let mut steps = expected(&steps);
    steps.sort_by(|a, b| a.2.last().cmp(&b.2.last()));
    assert_eq!(of_steps, steps);
    assert_eq!(rows.len(), 16);
}

#[test]
fn steps_of_one_name_and_end_are_counted_together_in_whatever_order_they_come() {
    let mut completed = completed_job();
    let steps = &mut completed.job.as_mut().unwrap().steps;
    let again = Step { duration: Lasted { ms: Some(20_000), is_odd: false }, ..steps[0].clone() };
    steps.push(again);
    let first = with(Detail::Steps).run(&completed, 0);
    completed.job.as_mut().unwrap().steps.reverse();
    let second = with(Detail::Steps).run(&completed, 0);
    assert_eq!(first.tag_set, second.tag_set);
    let rows = rows(&[first, second]);
    let of_test = |name: &str| {
        let is_it = |row: &&(String, f64, Vec<String>)| row.0 == name && row.2 == ["step_name:test"];
        rows.iter().find(is_it).unwrap().1
    };
    assert_eq!(
        (of_test("step.total"), of_test("step.duration_second"), of_test("step.duration_second_total")),
        (4.0, 30.0, 120.0)
    );
}

#[test]
fn the_tags_of_a_job_are_those_of_a_run_that_github_tells_of_it_and_its_own() {
    let tags = [
        "branch:main",
        "conclusion:success",
        "default_branch:true",
        "job_name:test",
        "repository_name:widgets",
        "repository_owner:acme",
        "runner_group:github_actions",
        "runs_on:ubuntu-latest",
        "sender_type:user",
        "workflow_name:ci",
    ];
    assert_eq!(with(Detail::Jobs).run(&completed_job(), 0).tag_set.tags, tags);
    let unfolded = Tagging { fold_matrix: false, ..with(Detail::Jobs) }.run(&completed_job(), 0);
    assert!(unfolded.tag_set.tags.contains(&"job_name:test_stable".to_owned()), "{:?}", unfolded.tag_set.tags);
}

#[test]
fn no_tag_of_a_job_holds_the_id_of_its_run() {
    let mut completed = completed_job();
    let job = completed.job.as_mut().unwrap();
    job.name = Some("deploy of 30433642".to_owned());
    job.labels = vec!["runs-on=30433642/cpu=2".to_owned()];
    job.steps[0].name = Some("tell 30433642".to_owned());
    let run = with(Detail::Steps).run(&completed, 0);
    let all: Vec<String> = run.tag_set.elements().flat_map(|element| element.tags.clone()).collect();
    assert!(!all.iter().any(|tag| tag.contains("30433642")), "{all:?}");
    assert!(all.contains(&"runs_on:runs-on_/cpu_2".to_owned()), "{all:?}");
}

#[test]
fn tag_sets_that_may_have_series_in_common_are_of_one_family() {
    let of = |detail, change: &dyn Fn(&mut Completed)| {
        let mut completed = completed_job();
        change(&mut completed);
        with(detail).run(&completed, 0).tag_set.family().unwrap()
    };
    let family = of(Detail::Jobs, &|_| {});
    assert_eq!((family.subject, family.steps.len(), family.tags.len()), (Subject::Job, 0, 9));
    assert_eq!(of(Detail::Steps, &|_| {}), family);
    assert_eq!(of(Detail::Steps, &|completed| completed.conclusion = Some("failure".to_owned())), family);
    assert_eq!(of(Detail::Steps, &|completed| completed.job.as_mut().unwrap().steps.clear()), family);
    assert_ne!(of(Detail::Jobs, &|completed| completed.workflow = None), family);
    assert_eq!(tagging().run(&completed(), 0).tag_set.family(), None, "that of a run is itself");
}

#[test]
fn a_job_with_the_longest_tags_and_steps_fits_into_one_request() {
    const UNPACKED_MAX_BYTES: usize = 5_242_880;
    let long = |letter: &str, number: usize| Some(format!("{number:03}{}", letter.repeat(250)));
    let mut kept = Vec::new();
    for letter in ["x", "\u{1e0b}", "\u{1e922}"] {
        let mut completed = completed_job();
        for text in [&mut completed.workflow, &mut completed.branch, &mut completed.conclusion, &mut completed.sender] {
            *text = long(letter, 1);
        }
        let job = completed.job.as_mut().unwrap();
        (job.name, job.runner_group, job.labels) = (long(letter, 1), long(letter, 1), vec![long(letter, 1).unwrap()]);
        let step = Step { conclusion: long(letter, 2), ..job.steps[0].clone() };
        job.steps =
            (0..crate::event::STEPS_MAX).map(|number| Step { name: long(letter, number), ..step.clone() }).collect();
        let tagging = Tagging { prefix: "p".repeat(120), extra: vec![ExtraTag::Sender], ..with(Detail::Steps) };
        let run = tagging.run(&completed, 0);
        let bytes = payload(&[slot_of(tagging.run(&completed, 0))]).line().len();
        assert!(bytes < UNPACKED_MAX_BYTES, "{letter}: {bytes}");
        assert_eq!(run.steps_ms().len(), run.tag_set.steps.len());
        kept.push(run.steps_ms().len());
    }
    assert!(kept[0] == crate::event::STEPS_MAX && kept[2] < 300, "{kept:?}");
}

proptest! {
    /// Two tag sets that have a series in common are of one family, or are one.
    #[test]
    fn what_has_a_series_in_common_is_of_one_family(
        one in any::completed(),
        conclusion in prop_oneof![Just("success"), Just("failure")],
        names in prop::collection::vec(prop_oneof![Just("a"), Just("b")], 0..3),
    ) {
        let mut other = one.clone();
        other.conclusion = Some(conclusion.to_owned());
        if let Some(job) = &mut other.job {
            let step = |name: &str| Step { name: Some(name.to_owned()), conclusion: None, duration: Lasted::default() };
            job.steps.extend(names.into_iter().map(step));
        }
        let [one, other] = [one, other].map(|completed| with(Detail::Steps).run(&completed, 0).tag_set);
        let elements = |tag_set: &TagSet| tag_set.elements().map(Cow::into_owned).collect::<BTreeSet<TagSet>>();
        let family = |tag_set: &TagSet| tag_set.family().unwrap_or_else(|| tag_set.elements().next().unwrap().into_owned());
        if !elements(&one).is_disjoint(&elements(&other)) {
            prop_assert_eq!(family(&one), family(&other));
        }
    }
}
