//! The database's own part: what two sessions that meet do to each other, step by step.

use super::cluster::{Cluster, Session};
use crate::harness::PATIENCE;
use std::time::Instant;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ledger/postgres/schema.sql");

/// A cluster with an empty ledger of format 1, whose term is 1.
fn ledger() -> Option<Cluster> {
    let cluster = Cluster::start()?;
    let schema = std::fs::read_to_string(SCHEMA).unwrap();
    cluster.psql(&format!("create schema runhound; set search_path to runhound; {schema}"));
    session(&cluster).ask("select make_partitions(); insert into ledger (format, birth, term) values (1, 0, 1)");
    Some(cluster)
}

fn session(cluster: &Cluster) -> Session {
    let mut session = cluster.session();
    session.ask("set search_path to runhound");
    session
}

/// Accepts, as a statement.
fn accept(keys: &str, drops: bool) -> String {
    format!("select accept('{{{keys}}}', '{{{keys}}}', {drops})")
}

/// Waits until some session waits for another.
fn until_blocked(cluster: &Cluster) {
    let begun = Instant::now();
    while cluster.psql("select count(*) from pg_locks where not granted") == "0" {
        assert!(begun.elapsed() < PATIENCE, "nobody waits");
    }
}

/// What `second` answers, which waits for the open transaction of `first`, once that has ended so.
fn meet(cluster: &Cluster, first: (&str, &str), second: &str) -> String {
    let (mut one, mut other) = (session(cluster), session(cluster));
    one.ask(&format!("begin; {}", first.0));
    other.send(second);
    until_blocked(cluster);
    one.ask(first.1);
    other.answer(PATIENCE).unwrap()
}

#[test]
fn a_key_that_is_being_marked_as_sent_is_not_taken_again() {
    let Some(cluster) = ledger() else { return };
    assert_eq!(session(&cluster).ask(&accept("1,2", false)), "1\n2");
    let mark = |key: &str| format!("select settle(1, null, '{{{key}}}', '{{}}')");
    assert_eq!(meet(&cluster, (&mark("1"), "commit"), &accept("1", false)), "", "it is sent");
    assert_eq!(meet(&cluster, (&mark("2"), "rollback"), &accept("2", false)), "", "it is pending still");
    assert_eq!(cluster.psql("select key from runhound.pending"), "2");
    assert_eq!(cluster.psql("select key from runhound.sent"), "1");
    let refuse = "select settle(1, null, '{}', '{2}')";
    assert_eq!(meet(&cluster, (refuse, "commit"), &accept("2", false)), "2", "what is rejected may come again");
}

#[test]
fn of_two_that_take_the_same_keys_one_has_each_and_neither_waits_for_ever() {
    let Some(cluster) = ledger() else { return };
    assert_eq!(meet(&cluster, (&accept("1,2,3", false), "commit"), &accept("4,3,2", false)), "4");
    assert_eq!(meet(&cluster, (&accept("6,5", false), "rollback"), &accept("5,6", false)), "5\n6");
    let (mut one, mut other) = (session(&cluster), session(&cluster));
    assert_eq!(one.ask(&format!("begin; {}", accept("7", false))), "7");
    other.send(&accept("8,7", false));
    until_blocked(&cluster);
    assert_eq!(one.ask(&accept("8", false)), "8", "who waits for 7 does not have 8");
    one.ask("commit");
    assert_eq!(other.answer(PATIENCE).unwrap(), "");
}

#[test]
fn where_reruns_are_dropped_two_attempts_that_meet_are_one() {
    let Some(cluster) = ledger() else { return };
    let second = accept("7/attempts/2", true);
    assert_eq!(meet(&cluster, (&accept("7", true), "commit"), &second), "");
    assert_eq!(session(&cluster).ask("select settle(1, null, '{7}', '{}')"), "t");
    assert_eq!(session(&cluster).ask(&second), "", "nor once it is sent");
    assert_eq!(session(&cluster).ask(&accept("7/attempts/2", false)), "7/attempts/2", "elsewhere it is news");
    for other in ["6", "77", "7777/attempts/2", "jobs/7", "70/attempts/7"] {
        assert_eq!(session(&cluster).ask(&accept(other, true)), other);
    }
}

#[test]
fn what_an_old_leader_still_says_changes_nothing_once_there_is_another_term() {
    let Some(cluster) = ledger() else { return };
    session(&cluster).ask(&accept("1", false));
    let lead = "update ledger set term = term + 1";
    let seal = |term: u32| {
        format!("select seal({term}, 'sealed in {term}', array['\\x01'::bytea], '{{f}}', '{{5}}', '{{false}}')")
    };
    assert_eq!(meet(&cluster, (lead, "commit"), &seal(1)), "f");
    assert_eq!(cluster.psql("select batch from runhound.ledger"), "");
    assert_eq!(cluster.psql("select count(*) from runhound.last_second"), "0");
    assert_eq!(session(&cluster).ask(&seal(2)), "t");
    let mark = |term: u32| format!("select settle({term}, null, '{{1}}', '{{}}')");
    assert_eq!(meet(&cluster, (lead, "commit"), &mark(2)), "f");
    assert_eq!(cluster.psql("select key from runhound.pending"), "1");
    assert_eq!(cluster.psql("select batch from runhound.ledger"), "sealed in 2");
    // What the old one was at when the new one began, the new one sees.
    let begin = format!("{lead} returning term, coalesce(batch, 'nothing')");
    assert_eq!(meet(&cluster, (&mark(3), "commit"), &begin), "4|nothing");
}

#[test]
fn a_used_second_never_goes_back() {
    let Some(cluster) = ledger() else { return };
    for (second, last) in [(5, 5), (9, 9), (7, 9)] {
        let seal = format!("select seal(1, 'b', array['\\x01'::bytea], '{{f}}', '{{{second}}}', '{{false}}')");
        session(&cluster).ask(&seal);
        assert_eq!(cluster.psql("select second from runhound.last_second"), last.to_string());
    }
}

#[test]
fn keys_are_forgotten_by_whole_months_and_the_count_of_them_with_them() {
    let Some(cluster) = ledger() else { return };
    let mut session = session(&cluster);
    session.ask(&accept("1,2", false));
    session.ask("select settle(1, null, '{1}', '{}')");
    for (name, from, to) in [
        ("sent_2025_01", "2025-01-01 00:00+00", "2025-02-01 00:00+00"),
        ("sent_2025_02", "2025-02-01 00:00+00", "2025-03-01 00:00+00"),
    ] {
        session.ask(&format!("create table {name} (like sent including all)"));
        session.ask(&format!("alter table sent attach partition {name} for values from ('{from}') to ('{to}')"));
        session.ask(&format!(
            "insert into sent (key, sent_at) select '{name} ' || n, '{from}' from generate_series(1, 3) n"
        ));
    }
    session.ask("update ledger set sent = sent + 6");
    let mut drop_those_before =
        |day: &str| session.ask(&format!("select drop_partition(current_date - '{day}'::date)"));
    assert_eq!(drop_those_before("2025-01-31"), "", "a day of it is not so old");
    assert_eq!(drop_those_before("2025-02-02"), "sent_2025_01");
    assert_eq!(drop_those_before("2025-02-02"), "", "one month at a time, and no more than is due");
    assert_eq!(cluster.psql("select sent, (select count(*) from runhound.sent) from runhound.ledger"), "4|4");
    let months = "select count(*) from pg_inherits where inhparent = 'runhound.sent'::regclass";
    assert_eq!(cluster.psql(months), "4", "one, this month, and the two to come");
}

#[test]
fn a_batch_of_the_most_runs_is_marked_within_the_time_of_a_statement() {
    let Some(cluster) = ledger() else { return };
    let mut session = session(&cluster);
    session.ask("set statement_timeout to '5s'");
    let keys = "array(select n::text from generate_series(1, 10000) n)";
    assert_eq!(session.ask(&format!("select count(*) from accept({keys}, {keys}, false)")), "10000");
    assert_eq!(session.ask(&format!("select settle(1, null, {keys}, '{{}}')")), "t");
    assert_eq!(session.ask("select sent, (select count(*) from pending) from ledger"), "10000|0");
    assert_eq!(session.ask("select count(*) from sent where number <> key::bigint"), "0", "in the order of sending");
}

#[test]
fn plans_that_were_kept_from_a_time_of_few_keys_are_as_good_for_many() {
    let Some(cluster) = ledger() else { return };
    let mut session = session(&cluster);
    session.ask("set statement_timeout to '5s'");
    let mut round = |from: u32, to: u32| {
        let keys = format!("array(select n::text from generate_series({from}, {to}) n)");
        let accepted = session.ask(&format!("select count(*) from accept({keys}, {keys}, false)"));
        (accepted, session.ask(&format!("select settle(1, null, {keys}, '{{}}')")))
    };
    for id in 1..=3 {
        assert_eq!(round(id, id), ("1".to_owned(), "t".to_owned()));
    }
    cluster.psql("vacuum analyze");
    // After some calls a function keeps its plans.
    for id in 4..=11 {
        assert_eq!(round(id, id), ("1".to_owned(), "t".to_owned()));
    }
    for thousands in 1..=12 {
        let from = thousands * 10_000;
        assert_eq!(round(from, from + 4_999), ("5000".to_owned(), "t".to_owned()));
    }
}
