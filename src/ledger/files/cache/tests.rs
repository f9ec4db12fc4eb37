use super::*;
use std::fs;
use tempfile::TempDir;

fn cache() -> (TempDir, PathBuf, WorkflowCache) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache/sent.json");
    let cache = WorkflowCache::new(&path).unwrap();
    (dir, path, cache)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_missing_file_is_made_with_its_folder_and_only_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, path, cache) = cache();
    assert!(cache.is_empty());
    assert_eq!(text(&path), "{\n  \"sent\": []\n}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn marking_appends_in_order_and_once() {
    let (_dir, path, mut cache) = cache();
    cache.mark_as_sent(&["b", "a", "b"]).unwrap();
    cache.mark_as_sent(&["a", "c"]).unwrap();
    assert_eq!(text(&path), "{\n  \"sent\": [\n    \"b\",\n    \"a\",\n    \"c\"\n  ]\n}");
    assert_eq!(cache.len(), 3);
}

#[test]
fn an_append_costs_the_new_ids_and_keeps_the_file() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, path, mut cache) = cache();
    cache.mark_as_sent(&(0..10_000).map(|id| id.to_string()).collect::<Vec<_>>()).unwrap();
    let before = fs::metadata(&path).unwrap();
    cache.mark_as_sent(&["10000"]).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.ino(), before.ino());
    assert_eq!(after.len() - before.len(), "    \"10000\",\n".len() as u64);
}

#[test]
fn a_file_of_the_plans_program_is_honoured_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sent-workflows.json");
    let seed = "{\n  \"sent\": [\n    \"workflow-1\",\n    \"30433642\",\n    \"ünï \\\"x\\\"\"\n  ]\n}";
    fs::write(&path, seed).unwrap();
    let mut cache = WorkflowCache::new(&path).unwrap();
    for id in ["workflow-1", "30433642", "ünï \"x\""] {
        assert!(cache.has_been_sent(id), "{id}");
    }
    assert_eq!(text(&path), seed);
    cache.mark_as_sent(&["7"]).unwrap();
    assert_eq!(text(&path), format!("{},\n    \"7\"\n  ]\n}}", seed.strip_suffix("\n  ]\n}").unwrap()));
}

#[test]
fn another_layout_is_read_as_it_is_and_rewritten_when_something_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sent-workflows.json");
    let flat = r#"{"note": [1, 2.50], "sent": ["1","2"]}"#;
    fs::write(&path, flat).unwrap();
    let mut cache = WorkflowCache::new(&path).unwrap();
    assert!(cache.has_been_sent("2"));
    assert_eq!(text(&path), flat);
    cache.mark_as_sent(&["3"]).unwrap();
    let ours = "{\n  \"note\": [1, 2.50],\n  \"sent\": [\n    \"1\",\n    \"2\",\n    \"3\"\n  ]\n}";
    assert_eq!(text(&path), ours);
}

#[test]
fn a_file_that_someone_changed_replaced_or_deleted_meanwhile_is_taken_over() {
    let (dir, path, mut cache) = cache();
    cache.mark_as_sent(&["1", "2"]).unwrap();
    fs::write(&path, r#"{"sent": ["1", "9"]}"#).unwrap();
    cache.mark_as_sent(&["3"]).unwrap();
    assert_eq!(text(&path), "{\n  \"sent\": [\n    \"1\",\n    \"9\",\n    \"3\"\n  ]\n}");
    assert!(cache.has_been_sent("9") && !cache.has_been_sent("2"));
    let other = dir.path().join("other.json");
    fs::write(&other, r#"{"sent": ["5"]}"#).unwrap();
    fs::rename(&other, &path).unwrap();
    cache.mark_as_sent(&["6"]).unwrap();
    assert_eq!(text(&path), "{\n  \"sent\": [\n    \"5\",\n    \"6\"\n  ]\n}");
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    cache.mark_as_sent(&["7"]).unwrap();
    assert_eq!(text(&path), "{\n  \"sent\": [\n    \"5\",\n    \"6\",\n    \"7\"\n  ]\n}");
}

#[test]
fn a_file_that_someone_damaged_meanwhile_is_left_as_it_is() {
    let (_dir, path, mut cache) = cache();
    cache.mark_as_sent(&["1"]).unwrap();
    fs::write(&path, "{\"sent\": [\"1\"").unwrap();
    assert!(matches!(cache.mark_as_sent(&["2"]), Err(FileError::Damaged { .. })));
    assert_eq!(text(&path), "{\"sent\": [\"1\"");
    fs::write(&path, "{\"sent\": [\"1\"]}").unwrap();
    cache.mark_as_sent(&["2"]).unwrap();
    assert!(text(&path).contains("\"2\""));
}

#[test]
fn what_is_not_a_file_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let error = WorkflowCache::new(dir.path()).unwrap_err();
    assert!(matches!(&error, FileError::Io { path, .. } if path == dir.path()), "{error:?}");
}

#[test]
fn the_last_ids_are_written_again_as_they_stand_however_long_they_are() {
    let (_dir, path, mut cache) = cache();
    let long = "x".repeat(5_000);
    cache.mark_as_sent(&["1", "2", long.as_str(), "3", &long[1..]]).unwrap();
    let before = text(&path);
    for ids in [0, 1, 2, 3, 5, 9] {
        cache.write_last_again(ids).unwrap();
        assert_eq!(text(&path), before, "{ids}");
    }
    cache.mark_as_sent(&["4"]).unwrap();
    assert_eq!(text(&path), format!("{},\n    \"4\"\n  ]\n}}", before.strip_suffix("\n  ]\n}").unwrap()));
}
