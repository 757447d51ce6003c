//! Azure: events of this machine among those of others, and approving them.

use hyper::Method;
use serde_json::{Value, json};

use super::clouds::AzureVm;
use super::fake::{Mood, at, http_date};
use super::*;
use crate::notice::http::{PROMPT, Query};

const EVENTS: &str = "GET /metadata/scheduledevents";

fn event(id: &str, kind: &str, resources: &[&str], not_before: i64) -> Value {
    json!({
        "EventId": id, "EventType": kind, "ResourceType": "VirtualMachine", "Resources": resources, "EventStatus": "Scheduled",
        "NotBefore": http_date(at(not_before)), "Description": "the host is needed", "EventSource": "Platform", "DurationInSeconds": -1,
    })
}

fn started(mut event: Value) -> Value {
    event["EventStatus"] = "Started".into();
    event["NotBefore"] = "".into();
    event
}

#[tokio::test(start_paused = true)]
async fn the_fake_refuses_what_the_service_refuses() {
    let client = client(&Net::new(AzureVm::new(Duration::ZERO)));
    let status = async |method: Method, path: &str, headers: &[(&str, &str)], body: &str| {
        let url = format!("http://169.254.169.254{path}");
        client.send(Query { method, url, headers, body: body.into(), within: PROMPT }).await.unwrap().status.as_u16()
    };
    let (events, metadata) = ("/metadata/scheduledevents?api-version=2020-07-01", ("metadata", "true"));
    assert_eq!(status(Method::GET, events, &[], "").await, 400);
    assert_eq!(status(Method::GET, events, &[metadata, ("x-forwarded-for", "10.0.0.1")], "").await, 400);
    assert_eq!(status(Method::GET, "/metadata/scheduledevents", &[metadata], "").await, 400);
    assert_eq!(status(Method::POST, events, &[metadata], "{}").await, 400);
    assert_eq!(status(Method::POST, events, &[metadata], r#"{"StartRequests": [{"EventId": "none"}]}"#).await, 400);
    assert_eq!(status(Method::GET, events, &[metadata], "").await, 200);
}

#[tokio::test(start_paused = true)]
async fn only_events_of_this_machine_that_end_its_processes_count() {
    let net = Net::new(AzureVm::new(Duration::ZERO));
    net.cloud.set(&[event("A", "Preempt", &["worker_0"], 40), event("B", "Freeze", &["worker_1"], 40)]);
    let mut notices = listen(&["azure"], &net);
    assert_eq!(within(&mut notices, 11).await, None);
    net.cloud.set(&[event("C", "Preempt", &["worker_0", "WORKER_1"], 43), event("D", "Redeploy", &["worker_1"], 600)]);
    let because = "Azure announces Preempt (C): the host is needed".into();
    let expected = Notice::Preempt { source: "azure".into(), kind: Kind::Terminate, deadline: Some(seconds(30)), because };
    assert_eq!(within(&mut notices, 2).await, Some(expected));
    net.cloud.set(&[event("D", "Redeploy", &["worker_1"], 600)]);
    assert_eq!(within(&mut notices, 10).await, None, "the redeployment stands");
    net.cloud.set(&[]);
    assert_eq!(cancelled(&mut notices, 2).await, "azure");
    for (kind, expected) in [("Reboot", Kind::Maintenance), ("Redeploy", Kind::Maintenance), ("Terminate", Kind::Terminate)] {
        net.cloud.set(&[event("E", kind, &["worker_1"], 1000)]);
        assert_eq!(preempted(&mut notices, 2).await.0, expected, "{kind}");
        net.cloud.set(&[]);
        cancelled(&mut notices, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_has_started_is_immediate() {
    let net = Net::new(AzureVm::new(Duration::ZERO));
    net.cloud.set(&[event("A", "Preempt", &["worker_1"], 41)]);
    let mut notices = listen(&["azure"], &net);
    assert_eq!(preempted(&mut notices, 1).await, (Kind::Terminate, Some(seconds(40))));
    net.cloud.set(&[started(event("A", "Preempt", &["worker_1"], 40))]);
    assert_eq!(preempted(&mut notices, 2).await, (Kind::Terminate, Some(Duration::ZERO)));
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_may_take_two_minutes_and_the_later_ones_not() {
    let net = Net::new(AzureVm::new(seconds(119)));
    net.cloud.set(&[event("A", "Preempt", &["worker_1"], 140)]);
    let mut notices = listen(&["azure"], &net);
    assert_eq!(preempted(&mut notices, 119).await, (Kind::Terminate, Some(seconds(20))));
    net.is(Mood::Mute);
    let before = net.count(EVENTS);
    assert_eq!(within(&mut notices, 21).await, None);
    assert!((10..=11).contains(&(net.count(EVENTS) - before)), "asked every two seconds although none is answered");
}

#[tokio::test(start_paused = true)]
async fn a_configured_name_is_not_asked_for() {
    let net = Net::new(AzureVm::new(Duration::ZERO));
    net.cloud.set(&[event("A", "Preempt", &["worker_7"], 31)]);
    let named = Preemption { azure_resource: Some("worker_7".into()), ..section(&["azure"]) };
    assert_eq!(preempted(&mut watch_with(&named, client(&net)), 1).await, (Kind::Terminate, Some(seconds(30))));
    assert_eq!(net.count("GET /metadata/instance/compute/name"), 0);
}

#[tokio::test(start_paused = true)]
async fn only_what_concerns_this_machine_alone_is_approved_and_only_where_that_is_wanted() {
    let net = Net::new(AzureVm::new(Duration::ZERO));
    let events = [
        event("A", "Preempt", &["worker_1"], 40),
        event("B", "Preempt", &["worker_0"], 40),
        event("C", "Reboot", &["worker_0", "worker_1"], 900),
        event("D", "Freeze", &["worker_1"], 900),
        started(event("E", "Preempt", &["worker_1"], 40)),
    ];
    net.cloud.set(&events);
    assert_eq!(approve_with(&section(&["azure"]), client(&net)).await, Ok(0));
    let wanted = Preemption { azure_approve: true, azure_resource: Some("worker_1".into()), ..section(&["azure"]) };
    assert_eq!(approve_with(&Preemption { sources: Vec::new(), ..wanted.clone() }, client(&net)).await, Ok(0));
    assert!(net.asked().is_empty(), "{:?}", net.asked());
    assert_eq!(approve_with(&wanted, client(&net)).await, Ok(1));
    assert_eq!(net.cloud.statuses(), ["Started", "Scheduled", "Scheduled", "Scheduled", "Started"]);
    assert_eq!(approve_with(&wanted, client(&net)).await, Ok(0), "it has been approved");
    net.is(Mood::Mute);
    let begun = tokio::time::Instant::now();
    assert!(approve_with(&wanted, client(&net)).await.is_err());
    assert_eq!(begun.elapsed(), PROMPT, "a node that wants to end does not wait for long");
    net.is(Mood::Refuses);
    let error = approve_with(&wanted, client(&net)).await.unwrap_err().to_string();
    assert_eq!(error, "Azure's scheduled events cannot be approved (no connection: connection refused): they begin at their deadlines");
}
