use super::*;
use crate::{ledger::*, metrics::TagSet};
use std::{fs, time::Duration};
use tempfile::TempDir;

mod compaction;

const NOW: i64 = 1_796_000_000;
const LIMIT: usize = 500_000;

struct House {
    dir: TempDir,
    reruns: Reruns,
    compact_at_bytes: u64,
    max_journal_bytes: u64,
}

/// An open ledger that is closed, and waited for, at the end of a test.
struct Tenant {
    ledger: Ledger,
    owner: JoinHandle<()>,
    standing: Standing,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, reruns: Reruns::Push, compact_at_bytes: 8 << 20, max_journal_bytes: 1 << 30 }
    }

    fn files(&self) -> Files {
        Files::new(self.dir.path(), Mode::Live)
    }

    fn try_open(&self) -> Result<Tenant, OpenError> {
        let options = Options {
            lock_patience: Duration::ZERO,
            compact_at_bytes: self.compact_at_bytes,
            max_journal_bytes: self.max_journal_bytes,
            ..Options::new(self.files(), self.reruns, NOW - 10_000)
        };
        let Opened { ledger, owner, standing, .. } = Ledger::open(options)?;
        Ok(Tenant { ledger, owner, standing })
    }

    fn open(&self) -> Tenant {
        self.try_open().unwrap()
    }

    fn cache(&self) -> String {
        fs::read_to_string(self.files().cache).unwrap()
    }

    fn journal(&self) -> Vec<u8> {
        fs::read(self.files().journal).unwrap()
    }
}

impl Tenant {
    /// Drops the last handle and waits for the owner: a clean stop.
    fn close(self) {
        drop(self.ledger);
        self.owner.join().unwrap();
    }

    async fn accept(&self, key: &str) -> Accepted {
        self.ledger.accept(run(key), NOW).await.unwrap()
    }

    async fn open_batch(&self) -> Option<Batch> {
        self.ledger.lead().await.unwrap().unwrap().open_batch
    }

    async fn seal(&self, now: i64) -> Batch {
        match self.ledger.seal(now, LIMIT, Choice::Except(HashSet::new())).await.unwrap() {
            Sealed::Batch(batch) => batch,
            other => panic!("{other:?}"),
        }
    }

    async fn send_all(&self, now: i64) {
        let batch = self.seal(now).await;
        self.ledger.mark(keys_of(&batch.slots)).await.unwrap();
    }
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn run(text: &str) -> Run {
    let tag_set = TagSet::of_runs("github.actions".to_owned(), vec!["conclusion:success".to_owned()]);
    Run { key: key(text), end: NOW - 5, duration_ms: Some(61_000), job: None, tag_set: Arc::new(tag_set) }
}

fn shape(batch: &Batch) -> Vec<(i64, Vec<String>)> {
    batch.slots.iter().map(|slot| (slot.second, slot.keys().map(|key| key.to_string()).collect())).collect()
}

/// Copies the files as they are, as a crash would leave them, into another house.
fn crash(house: &House) -> House {
    let after = House::new();
    for entry in fs::read_dir(house.dir.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), after.dir.path().join(entry.file_name())).unwrap();
    }
    after
}

#[actix_web::test]
async fn an_answered_run_survives_a_crash_and_is_a_duplicate_for_ever() {
    let house = House::new();
    let tenant = house.open();
    assert_eq!(tenant.accept("1").await, Accepted::New);
    assert_eq!(tenant.accept("1").await, Accepted::Duplicate);
    let house = crash(&house);
    let tenant = house.open();
    assert_eq!(tenant.standing, Standing { known: 0, pending: 1 });
    assert_eq!(tenant.accept("1").await, Accepted::Duplicate);
    tenant.send_all(NOW).await;
    assert_eq!(tenant.accept("1").await, Accepted::Duplicate);
    tenant.close();
    let tenant = house.open();
    assert_eq!(tenant.standing, Standing { known: 1, pending: 0 });
    assert_eq!(tenant.accept("1").await, Accepted::Duplicate);
}

#[actix_web::test]
async fn a_rerun_is_news_unless_reruns_are_dropped() {
    let mut house = House::new();
    let tenant = house.open();
    assert_eq!(tenant.accept("1").await, Accepted::New);
    assert_eq!(tenant.accept("1/attempts/2").await, Accepted::New);
    tenant.close();
    house.reruns = Reruns::Drop;
    let tenant = house.open();
    assert_eq!(tenant.accept("1/attempts/3").await, Accepted::Duplicate);
    assert_eq!(tenant.accept("2/attempts/2").await, Accepted::New);
    assert_eq!(tenant.accept("2").await, Accepted::Duplicate);
}

#[actix_web::test]
async fn the_open_batch_is_repeated_as_it_was_sealed() {
    let house = House::new();
    let tenant = house.open();
    tenant.accept("1").await;
    let batch = tenant.seal(NOW).await;
    tenant.accept("2").await;
    assert_eq!(shape(&tenant.seal(NOW + 100).await), shape(&batch), "at most one is open");
    let tenant = crash(&house).open();
    assert_eq!(shape(&tenant.open_batch().await.unwrap()), shape(&batch));
    assert_eq!(tenant.standing.pending, 2);
    tenant.ledger.mark(keys_of(&batch.slots)).await.unwrap();
    assert_eq!(shape(&tenant.seal(NOW).await), [(NOW - 4, vec!["2".to_owned()])]);
}

#[actix_web::test]
async fn a_slot_that_is_marked_in_part_is_still_sent_whole() {
    let house = House::new();
    let tenant = house.open();
    tenant.accept("1").await;
    tenant.accept("2").await;
    let batch = tenant.seal(NOW).await;
    tenant.ledger.mark(vec![key("1")]).await.unwrap();
    let tenant = crash(&house).open();
    assert_eq!(tenant.standing, Standing { known: 1, pending: 1 });
    assert_eq!(shape(&tenant.open_batch().await.unwrap()), shape(&batch));
}

#[actix_web::test]
async fn unsealed_runs_wait_again_and_their_second_stays_used() {
    let house = House::new();
    let tenant = house.open();
    tenant.accept("1").await;
    let batch = tenant.seal(NOW).await;
    assert_eq!(shape(&batch), [(NOW - 5, vec!["1".to_owned()])]);
    tenant.ledger.unseal(keys_of(&batch.slots), true).await.unwrap();
    let tenant = crash(&house).open();
    assert!(tenant.open_batch().await.is_none());
    assert_eq!(shape(&tenant.seal(NOW).await), [(NOW - 4, vec!["1".to_owned()])]);
}

#[actix_web::test]
async fn a_rejected_run_is_set_aside_and_may_come_again() {
    let house = House::new();
    let tenant = house.open();
    tenant.accept("1").await;
    let batch = tenant.seal(NOW).await;
    tenant.ledger.set_aside("{\"key\":\"1\"}".to_owned()).await.unwrap();
    tenant.ledger.reject(keys_of(&batch.slots)).await.unwrap();
    assert_eq!(fs::read_to_string(house.files().rejected).unwrap(), "{\"key\":\"1\"}\n");
    assert_eq!(tenant.accept("1").await, Accepted::New);
    let tenant = crash(&house).open();
    assert_eq!(tenant.standing, Standing { known: 0, pending: 1 });
}

#[actix_web::test]
async fn ids_of_settled_batches_are_written_back_to_a_cache_that_was_deleted() {
    let house = House::new();
    let tenant = house.open();
    for id in ["1", "2"] {
        tenant.accept(id).await;
        tenant.send_all(NOW).await;
    }
    tenant.close();
    let whole = house.cache();
    fs::remove_file(house.files().cache).unwrap();
    let tenant = house.open();
    assert_eq!(tenant.standing, Standing { known: 2, pending: 0 });
    assert_eq!(house.cache(), whole);
}

#[actix_web::test]
async fn a_torn_mark_is_completed_from_the_journal_at_whatever_byte_it_is() {
    let house = House::new();
    let tenant = house.open();
    tenant.accept("11").await;
    tenant.send_all(NOW).await;
    let before = house.cache();
    for id in ["22", "33"] {
        tenant.accept(id).await;
    }
    let batch = tenant.seal(NOW).await;
    let crashed = crash(&house);
    tenant.ledger.mark(keys_of(&batch.slots)).await.unwrap();
    let after = house.cache();
    for cut in before.len() - 6..after.len() {
        let house = crash(&crashed);
        fs::write(house.files().cache, &after[..cut]).unwrap();
        let tenant = house.open();
        let Standing { known, pending } = tenant.standing;
        assert_eq!(known + pending, 3, "cut at {cut}");
        if pending > 0 {
            assert_eq!(shape(&tenant.open_batch().await.unwrap()), shape(&batch), "cut at {cut}");
        }
        serde_json::from_str::<serde_json::Value>(&house.cache()).unwrap();
    }
}

#[actix_web::test]
async fn a_damaged_cache_is_refused_by_name_and_left_as_it_is() {
    let damaged = ["", "{", "{\"sent\": [\"1\"", "{\n  \"sent\": [\n    \"1\",\n", "[]", "{\"sent\": {}}", "\0\0\0\0"];
    for text in damaged {
        let house = House::new();
        fs::write(house.files().cache, text).unwrap();
        let error = house.try_open().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("sent-workflows.json is damaged at byte"), "{error}");
        assert_eq!(house.cache(), text);
        assert!(!house.files().journal.exists());
    }
}

#[actix_web::test]
async fn a_cache_that_lost_more_than_the_journal_knows_is_damaged() {
    let house = House::new();
    let old: Vec<String> = (100..200).map(|id| id.to_string()).collect();
    fs::write(house.files().cache, serde_json::to_string_pretty(&serde_json::json!({"sent": old})).unwrap()).unwrap();
    let tenant = house.open();
    tenant.accept("1").await;
    tenant.send_all(NOW).await;
    tenant.close();
    let cut = house.cache()[..300].to_owned();
    fs::write(house.files().cache, &cut).unwrap();
    assert!(matches!(house.try_open(), Err(OpenError::File(FileError::Damaged { .. }))));
    assert_eq!(house.cache(), cut);
}

#[actix_web::test]
async fn a_torn_last_group_is_cut_off_and_damage_is_refused() {
    let house = House::new();
    let tenant = house.open();
    tenant.accept("1").await;
    let kept = house.journal().len();
    tenant.accept("2").await;
    let whole = house.journal();
    for cut in kept + 1..whole.len() {
        let house = crash(&house);
        fs::write(house.files().journal, &whole[..cut]).unwrap();
        let tenant = house.open();
        assert_eq!(tenant.standing.pending, 1, "cut at {cut}");
        let journal = house.journal();
        assert_eq!(
            journal::parse(&journal, |_| Ok::<(), String>(())).unwrap().end,
            journal.len(),
            "the torn write is gone"
        );
        assert_eq!(tenant.accept("2").await, Accepted::New);
        assert_eq!(crash(&house).open().standing.pending, 2);
    }
    let mut flipped = whole.clone();
    flipped[kept - 10] ^= 1;
    fs::write(house.files().journal, &flipped).unwrap();
    let error = crash(&house).try_open().map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::File(FileError::Damaged { offset, .. }) if offset < kept), "{error}");
    assert_eq!(house.journal(), flipped);
}

#[actix_web::test]
async fn a_broken_last_group_with_a_run_that_was_sent_is_damage() {
    let house = House::new();
    let tenant = house.open();
    tenant.accept("77").await;
    let mut broken = house.journal();
    let at = broken.len() - 4;
    broken[at] ^= 1;
    fs::write(house.files().journal, &broken).unwrap();
    fs::write(house.files().cache, "{\"sent\": [\"77\"]}").unwrap();
    let error = crash(&house).try_open().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("journal.jsonl is damaged at byte") && error.contains("run 77"), "{error}");
}

#[actix_web::test]
async fn a_journal_at_its_limit_takes_no_new_run_until_settled_ones_have_made_room() {
    let mut house = House::new();
    house.max_journal_bytes = 4_000;
    let tenant = house.open();
    let mut accepted = Vec::new();
    let refused = loop {
        assert!(accepted.len() < 1_000, "it has no limit");
        let key = (accepted.len() + 1).to_string();
        match tenant.ledger.accept(run(&key), NOW).await {
            Ok(outcome) => accepted.push((key, outcome)),
            Err(error) => break error,
        }
    };
    assert!(accepted.len() > 5 && refused.to_string().contains("--max-journal-mib"), "{refused}");
    assert!(house.journal().len() <= 4_000);
    assert_eq!(tenant.accept("1").await, Accepted::Duplicate, "what is recorded is known all the same");
    // Sealing and marking go on, past the limit.
    let batch = tenant.seal(NOW).await;
    assert!(house.journal().len() > 4_000);
    let keys = keys_of(&batch.slots);
    let (some, rest) = keys.split_at(2);
    tenant.ledger.mark(some.to_vec()).await.unwrap();
    assert!(tenant.ledger.accept(run("101"), NOW).await.is_err(), "too few are settled to make room for them");
    tenant.ledger.mark(rest.to_vec()).await.unwrap();
    assert_eq!(tenant.accept("101").await, Accepted::New);
    assert_eq!(tenant.accept("1").await, Accepted::Duplicate);
    let tenant = crash(&house).open();
    assert_eq!(tenant.standing, Standing { known: accepted.len(), pending: 1 });
}

#[actix_web::test]
async fn one_directory_has_one_live_process_and_beside_it_a_dry_run() {
    let house = House::new();
    let tenant = house.open();
    let error = house.try_open().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(&format!("held by process {}", std::process::id())), "{error}");
    let dry = Options::new(Files::new(house.dir.path(), Mode::DryRun), Reruns::Push, NOW);
    assert!(Ledger::open(dry).is_ok());
    let dir = house.dir.path().to_owned();
    let waiting = std::thread::spawn(move || {
        Ledger::open(Options::new(Files::new(&dir, Mode::Live), Reruns::Push, NOW)).map(|opened| opened.standing)
    });
    tenant.accept("1").await;
    tenant.close();
    assert_eq!(waiting.join().unwrap().unwrap().pending, 1, "the second process waits for the first one to go");
}

#[actix_web::test]
async fn a_run_that_somebody_took_out_of_the_cache_can_be_sent_again() {
    let house = House::new();
    let tenant = house.open();
    tenant.accept("1").await;
    tenant.send_all(NOW).await;
    fs::write(house.files().cache, "{\"sent\": []}").unwrap();
    tenant.accept("2").await;
    tenant.send_all(NOW).await;
    assert_eq!(tenant.accept("1").await, Accepted::New);
    let batch = tenant.seal(NOW).await;
    let tenant = crash(&house).open();
    assert_eq!(shape(&tenant.open_batch().await.unwrap()), shape(&batch));
    assert_eq!(tenant.standing, Standing { known: 1, pending: 1 });
}

#[actix_web::test]
async fn a_run_that_came_again_is_not_lost_at_a_restart_before_it_is_sealed() {
    let house = House::new();
    let tenant = house.open();
    tenant.accept("1").await;
    tenant.send_all(NOW).await;
    fs::write(house.files().cache, "{\"sent\": []}").unwrap();
    tenant.accept("2").await;
    tenant.send_all(NOW).await;
    assert_eq!(tenant.accept("1").await, Accepted::New);
    assert_eq!(crash(&house).open().standing, Standing { known: 1, pending: 1 });
}
