//! When the journal is written anew, and what is in it then.

use super::*;

#[actix_web::test]
async fn compaction_drops_settled_runs_and_keeps_everything_else() {
    let mut house = House::new();
    house.compact_at_bytes = 4_000;
    let tenant = house.open();
    tenant.accept("1").await;
    tenant.send_all(NOW).await;
    let mut id = 1;
    let mut largest = 0;
    while id < 60 {
        id += 1;
        tenant.accept(&id.to_string()).await;
        tenant.send_all(NOW + id).await;
        largest = largest.max(house.journal().len());
    }
    assert!(house.journal().len() < 4_500 && largest > 3_000, "{} {largest}", house.journal().len());
    tenant.accept("1000").await;
    tenant.accept("1001").await;
    let house = crash(&house);
    let tenant = house.open();
    assert_eq!(tenant.standing, Standing { known: 60, pending: 2 });
    // The last used second is remembered over compaction: the next one is after it.
    let batch = tenant.seal(NOW + 61).await;
    assert!(batch.slots.iter().all(|slot| slot.second > NOW - 5 + 59), "{:?}", shape(&batch));
}

/// Which file the journal is: another one after each compaction.
fn journal_file(house: &House) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(house.files().journal).unwrap())
}

#[actix_web::test]
async fn a_journal_of_batches_that_are_refused_for_ever_stays_small() {
    let mut house = House::new();
    house.compact_at_bytes = 4_000;
    let tenant = house.open();
    for id in 1..=3 {
        tenant.accept(&id.to_string()).await;
    }
    let (mut largest, mut file, mut compactions) = (0, journal_file(&house), 0);
    for second in 0..300 {
        let batch = tenant.seal(NOW + second).await;
        tenant.ledger.unseal(keys_of(&batch.slots), false).await.unwrap();
        largest = largest.max(house.journal().len());
        compactions += usize::from(std::mem::replace(&mut file, journal_file(&house)) != file);
    }
    assert!(largest < 4_500, "{largest}");
    // A seal and an unseal are some 300 bytes with the headers of their groups.
    assert!((10..=30).contains(&compactions), "{compactions}");
    let after = crash(&house).open();
    assert_eq!(after.standing, Standing { known: 0, pending: 3 });
    let batch = after.seal(NOW + 300).await;
    assert!(
        batch.slots.iter().all(|slot| slot.second > NOW - 5 + 299),
        "used seconds are remembered: {:?}",
        shape(&batch)
    );
}

#[actix_web::test]
async fn a_large_backlog_is_not_written_again_and_again() {
    let mut house = House::new();
    house.compact_at_bytes = 4_000;
    let tenant = house.open();
    let first = journal_file(&house);
    for id in 1..=100 {
        tenant.accept(&id.to_string()).await;
    }
    assert!(house.journal().len() > 3 * 4_000);
    assert_eq!(journal_file(&house), first, "all of it is needed");
    let (mut file, mut compactions) = (first, 0);
    for second in 0..300 {
        let batch =
            match tenant.ledger.seal(NOW + second, LIMIT, Choice::Only(HashSet::from([key("1")]))).await.unwrap() {
                Sealed::Batch(batch) => batch,
                other => panic!("{other:?}"),
            };
        tenant.ledger.unseal(keys_of(&batch.slots), false).await.unwrap();
        compactions += usize::from(std::mem::replace(&mut file, journal_file(&house)) != file);
    }
    assert!((1..=6).contains(&compactions), "each after as much as the backlog has come in: {compactions}");
    assert_eq!(crash(&house).open().standing.pending, 100);
}
