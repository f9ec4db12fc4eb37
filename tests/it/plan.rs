//! Every test of the original plan, under a name that says so.

use crate::intake::{Intake, Order, TEST_KEY};
use runhound::{
    DatadogService, WorkflowCache,
    datadog::{ApiKey, Endpoint, SubmitError, SubmitOptions, Submitted},
    ledger::{Files, Ledger, Mode, Options, Reruns},
    metrics::{MetricKind, MetricPayload, Point, Series},
};
use std::path::Path;
use tempfile::TempDir;

fn payload() -> MetricPayload {
    let points = vec![Point { timestamp: crate::harness::now(), value: 1.0 }];
    let tags = vec!["repository_name:widgets".to_owned()];
    let metric = "github.actions.workflow_run.total".to_owned();
    MetricPayload { series: vec![Series { metric, kind: MetricKind::Count, points, tags, unit: None }] }
}

fn live(dir: &Path, intake: &Intake) -> DatadogService {
    let datadog = Some((Endpoint::new(&intake.url()).unwrap(), ApiKey::new(TEST_KEY).unwrap()));
    DatadogService::new(SubmitOptions { cache_dir: dir.to_owned(), datadog }).unwrap()
}

fn dry_run(dir: &Path) -> DatadogService {
    DatadogService::new(SubmitOptions { cache_dir: dir.to_owned(), datadog: None }).unwrap()
}

fn has_been_sent(dir: &TempDir, file: &str, id: &str) -> bool {
    WorkflowCache::new(dir.path().join(file)).unwrap().has_been_sent(id)
}

#[test]
fn plan_workflow_cache_should_persist_sent_workflow_ids() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache").join("test-cache.json");
    let mut cache = WorkflowCache::new(&path).unwrap();
    assert!(!cache.has_been_sent("test-workflow-1"));
    cache.mark_as_sent(&["test-workflow-1"]).unwrap();
    assert!(cache.has_been_sent("test-workflow-1"));
    assert!(WorkflowCache::new(&path).unwrap().has_been_sent("test-workflow-1"));
}

#[test]
fn plan_workflow_cache_should_filter_new_workflows() {
    let dir = tempfile::tempdir().unwrap();
    let mut cache = WorkflowCache::new(dir.path().join("test-cache.json")).unwrap();
    cache.mark_as_sent(&["workflow-1"]).unwrap();
    assert_eq!(cache.filter_new_workflows(&["workflow-1", "workflow-2"]), ["workflow-2"]);
}

#[actix_web::test]
async fn plan_should_register_workflow_in_cache_only_after_successful_api_call() {
    let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
    let submitted = live(dir.path(), &intake).submit_metrics(&payload(), &["workflow-1"]).await.unwrap();
    assert_eq!(submitted, Submitted::Sent(vec!["workflow-1".to_owned()]));
    assert!(has_been_sent(&dir, "sent-workflows.json", "workflow-1"));
    assert_eq!(intake.requests().len(), 1);
    intake.assert_contract();
}

#[actix_web::test]
async fn plan_should_not_register_workflow_in_cache_if_api_call_fails() {
    for order in
        [Order::status(500), Order::status(403), Order::Reset, Order::Status(200, "<html>".to_owned(), Vec::new())]
    {
        let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
        intake.order(order);
        let error = live(dir.path(), &intake).submit_metrics(&payload(), &["workflow-1"]).await.unwrap_err();
        assert!(matches!(error, SubmitError::NotTaken { .. }), "{error:?}");
        assert!(!error.to_string().contains(TEST_KEY));
        assert!(!has_been_sent(&dir, "sent-workflows.json", "workflow-1"));
        assert_eq!(intake.requests().len(), 1);
    }
}

#[actix_web::test]
async fn plan_should_not_make_api_call_for_already_sent_workflows() {
    let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
    let service = live(dir.path(), &intake);
    service.submit_metrics(&payload(), &["workflow-1"]).await.unwrap();
    let again = service.submit_metrics(&payload(), &["workflow-1"]).await.unwrap();
    assert_eq!(again, Submitted::AlreadySent);
    assert_eq!(intake.requests().len(), 1);
}

#[actix_web::test]
async fn plan_should_handle_mix_of_new_and_already_sent_workflows() {
    let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
    let service = live(dir.path(), &intake);
    service.submit_metrics(&payload(), &["workflow-1", "workflow-2"]).await.unwrap();
    let second = service.submit_metrics(&payload(), &["workflow-2", "workflow-3"]).await.unwrap();
    assert_eq!(second, Submitted::Sent(vec!["workflow-3".to_owned()]));
    for id in ["workflow-1", "workflow-2", "workflow-3"] {
        assert!(has_been_sent(&dir, "sent-workflows.json", id));
    }
    assert_eq!(intake.requests().len(), 2);
}

#[actix_web::test]
async fn plan_should_maintain_exactly_once_even_after_service_restart() {
    let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
    live(dir.path(), &intake).submit_metrics(&payload(), &["workflow-1"]).await.unwrap();
    live(dir.path(), &intake).submit_metrics(&payload(), &["workflow-1"]).await.unwrap();
    assert_eq!(intake.requests().len(), 1);
}

#[actix_web::test]
async fn plan_dry_run_should_use_separate_cache_file_and_not_make_api_calls() {
    let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
    dry_run(dir.path()).submit_metrics(&payload(), &["workflow-1"]).await.unwrap();
    assert_eq!(intake.requests().len(), 0);
    assert!(has_been_sent(&dir, "sent-workflows-dry-run.json", "workflow-1"));
    assert!(!has_been_sent(&dir, "sent-workflows.json", "workflow-1"));
    let logged = std::fs::read_to_string(dir.path().join("payloads-dry-run.jsonl")).unwrap();
    assert_eq!(serde_json::from_str::<MetricPayload>(&logged).unwrap().series[0].metric, payload().series[0].metric);
    live(dir.path(), &intake).submit_metrics(&payload(), &["workflow-1"]).await.unwrap();
    assert_eq!(intake.requests().len(), 1);
}

#[actix_web::test]
async fn submit_metrics_refuses_a_directory_that_a_service_holds() {
    let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
    let opened = Ledger::open(Options::new(Files::new(dir.path(), Mode::Live), Reruns::Push, 0)).unwrap();
    let error = live(dir.path(), &intake).submit_metrics(&payload(), &["workflow-1"]).await.unwrap_err();
    assert!(error.to_string().contains("held by process"), "{error}");
    assert_eq!(intake.requests().len(), 0);
    drop(opened.ledger);
    opened.owner.join().unwrap();
    live(dir.path(), &intake).submit_metrics(&payload(), &["workflow-1"]).await.unwrap();
}
