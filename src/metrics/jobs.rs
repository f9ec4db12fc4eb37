//! Names of jobs and labels of runners as tags: bounded, so that what differs on every run, or in every cell of a matrix, does
//! not make series of its own.

use crate::event::RunId;

/// A shorter number may stand in a name by chance. GitHub's IDs of today have eleven digits.
const RUN_ID_MIN_DIGITS: usize = 6;

/// A job's name without the values of its matrix: `test (ubuntu, 3.12)` is `test`, and of a job in a reusable workflow each
/// part is cut: `build (x64) / test (3.12)` is `build / test`. A name that GitHub has cut within its values ends in dots.
pub(super) fn fold_matrix(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find(" (") {
        let (before, values) = rest.split_at(at);
        if let Some(end) = values_end(values) {
            folded.push_str(before);
            rest = values.get(end..).unwrap_or_default();
        } else {
            let kept = at + 2;
            folded.push_str(rest.get(..kept).unwrap_or_default());
            rest = rest.get(kept..).unwrap_or_default();
        }
    }
    folded.push_str(rest);
    // A name that is nothing but values names itself.
    if folded.trim().is_empty() { name.to_owned() } else { folded }
}

/// Where the values end that ` (` begins, if that is where the name, or its part before a slash, ends.
fn values_end(values: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, char) in values.char_indices() {
        match char {
            '(' => depth += 1,
            ')' if depth == 1 => {
                let end = at + 1;
                let behind = values.get(end..)?;
                return (behind.is_empty() || behind.starts_with(" / ")).then_some(end);
            }
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (values.ends_with("...") || values.ends_with('…')).then_some(values.len())
}

/// What a job asks of a runner, in one text: in one order, as the order in the workflow does not matter.
pub(super) fn runs_on(labels: &[String], run: Option<RunId>) -> Option<String> {
    let mut labels: Vec<String> = labels.iter().map(|label| without_run(label, run)).collect();
    labels.sort_unstable();
    labels.dedup();
    Some(labels.join(",")).filter(|labels| !labels.is_empty())
}

/// The text without the ID of its run, which some put into labels so that no other run takes their runner.
pub(super) fn without_run(text: &str, run: Option<RunId>) -> String {
    let id = run.map(|RunId(id)| id.to_string()).filter(|id| id.len() >= RUN_ID_MIN_DIGITS);
    let Some(id) = id.filter(|id| text.contains(id.as_str())) else {
        return text.to_owned();
    };
    let is_digit = |char: Option<char>| char.is_some_and(|char| char.is_ascii_digit());
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(id.as_str()) {
        kept.push_str(before);
        if is_digit(kept.chars().next_back()) || is_digit(behind.chars().next()) {
            kept.push_str(&id);
        }
        rest = behind;
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_matrix_are_cut_off_each_part_of_a_jobs_name() {
        for (name, folded) in [
            ("test (ubuntu, 3.12)", "test"),
            ("test (stable) / unit (a, b)", "test / unit"),
            ("deploy (eu) / smoke test", "deploy / smoke test"),
            ("build (ubuntu (22.04), {\"a\": (1)})", "build"),
            ("test (a / b)", "test"),
            ("test (a, and a very long one that GitHub cuts...", "test"),
            ("test (a, and one that GitHub cuts…", "test"),
            ("build", "build"),
            ("f(x)", "f(x)"),
            ("check (all) platforms", "check (all) platforms"),
            ("check (all) platforms (x64)", "check (all) platforms"),
            ("test (unclosed", "test (unclosed"),
            ("a / b / c", "a / b / c"),
            (" (a)", " (a)"),
            ("été (é)", "été"),
        ] {
            assert_eq!(fold_matrix(name), folded, "{name}");
        }
    }

    #[test]
    fn the_labels_of_a_runner_are_one_text_in_one_order() {
        let of = |labels: &[&str]| runs_on(&labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>(), None);
        assert_eq!(of(&["ubuntu-latest"]).as_deref(), Some("ubuntu-latest"));
        assert_eq!(of(&["self-hosted", "linux", "gpu", "linux"]), of(&["gpu", "self-hosted", "linux"]));
        assert_eq!(of(&["self-hosted", "linux"]).as_deref(), Some("linux,self-hosted"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_id_of_a_run_in_a_label_is_cut_out_and_another_number_is_not() {
        let of = |text: &str, id: u64| without_run(text, Some(RunId(id)));
        assert_eq!(of("runs-on=22640158713/runner=2cpu", 22_640_158_713), "runs-on=/runner=2cpu");
        assert_eq!(of("22640158713-22640158713", 22_640_158_713), "-");
        assert_eq!(of("122640158713", 22_640_158_713), "122640158713");
        assert_eq!(of("226401587139", 22_640_158_713), "226401587139");
        assert_eq!(of("ubuntu-22.04", 22), "ubuntu-22.04", "a short number may stand there by chance");
        assert_eq!(without_run("ubuntu-22.04", None), "ubuntu-22.04");
    }
}
