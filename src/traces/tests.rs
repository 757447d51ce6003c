//! Spans from events, and what goes over the wire.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::dashboard::tests::fake::{FakeEye, STEP};

fn json(every: u64) -> Value {
    let events = FakeEye::new(4, 1_800_000_000_000).recorded();
    serde_json::to_value(requests("mine", spans("mine", &events, every))).unwrap()
}

fn all(requests: &Value) -> Vec<Value> {
    let spans =
        requests.as_array().unwrap().iter().flat_map(|request| request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap());
    spans.cloned().collect()
}

fn time(span: &Value, which: &str) -> u64 {
    span[which].as_str().unwrap().parse().unwrap()
}

#[test]
fn every_hundredth_step_is_a_trace_of_its_phases_in_order() {
    let spans = all(&json(100));
    let roots: Vec<&Value> = spans.iter().filter(|span| span["name"] == "step").collect();
    assert_eq!(roots.len() as u64, STEP / 100);
    for root in roots {
        let children: Vec<&Value> = spans.iter().filter(|span| span["parentSpanId"] == root["spanId"]).collect();
        assert_eq!(children.iter().map(|span| span["name"].as_str().unwrap()).collect::<Vec<_>>(), PHASES);
        let mut at = time(root, "startTimeUnixNano");
        for child in children {
            assert_eq!((time(child, "startTimeUnixNano"), &child["traceId"]), (at, &root["traceId"]));
            at = time(child, "endTimeUnixNano");
        }
        assert!(at <= time(root, "endTimeUnixNano"));
    }
}

#[test]
fn a_change_of_epoch_lasts_from_the_loss_to_the_first_commit() {
    let spans = all(&json(0));
    let roots: Vec<&Value> = spans.iter().filter(|span| span["name"] == "epoch change").collect();
    assert_eq!((roots.len(), spans.len()), (3, 9));
    let last = roots[2];
    let first_told = last["events"][0]["timeUnixNano"].as_str().unwrap();
    assert_eq!(last["startTimeUnixNano"], first_told);
    assert!(last["events"][0]["name"].as_str().unwrap().contains("was lost"));
    assert!(time(last, "endTimeUnixNano") - time(last, "startTimeUnixNano") > 30_000_000_000);
}

#[test]
fn ids_are_hexadecimal_unique_and_the_same_again() {
    let (first, again) = (all(&json(1)), all(&json(1)));
    assert_eq!(first, again);
    let mut seen = std::collections::BTreeSet::new();
    for span in &first {
        let (trace, id) = (span["traceId"].as_str().unwrap(), span["spanId"].as_str().unwrap());
        assert!(trace.len() == 32 && id.len() == 16 && (trace.to_owned() + id).bytes().all(|c| c.is_ascii_hexdigit()));
        assert!(seen.insert(id.to_owned()), "{id} twice");
        assert!(time(span, "startTimeUnixNano") <= time(span, "endTimeUnixNano"));
    }
    assert!(json(1).as_array().unwrap().len() > 1, "many spans are sent in several requests");
}

#[test]
fn phases_longer_than_their_step_are_shortened_alike() {
    let mut events = FakeEye::new(4, 1_800_000_000_000).recorded();
    for recorded in &mut events {
        if let Event::StepCommitted { phases, seconds, metrics, .. } = &mut recorded.event {
            *phases = BTreeMap::from([("data".into(), 2.0), ("compute".into(), 6.0)]);
            (*seconds, *metrics) = (1.0, BTreeMap::from([("loss".into(), f64::NAN)]));
        }
    }
    let spans = all(&serde_json::to_value(requests("mine", spans("mine", &events, 200))).unwrap());
    let compute = spans.iter().find(|span| span["name"] == "compute").unwrap();
    assert_eq!(time(compute, "endTimeUnixNano") - time(compute, "startTimeUnixNano"), 750_000_000);
}

/// A collector that answers one request with `status`, and gives what it got.
async fn collector(status: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let got = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = String::new();
        while !got.ends_with('}') {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            got.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwhy\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        got
    });
    (endpoint, got)
}

#[tokio::test]
async fn a_request_reaches_the_collector_as_json() {
    let (endpoint, got) = collector("200 OK").await;
    send::post(&endpoint, b"{\"a\":1}".to_vec()).await.unwrap();
    let got = got.await.unwrap().to_lowercase();
    assert!(got.starts_with("post /v1/traces http/1.1\r\n") && got.contains("content-type: application/json"), "{got}");
}

#[tokio::test]
async fn what_a_collector_refuses_and_who_is_none_is_said() {
    let (endpoint, _got) = collector("400 Bad Request").await;
    let refused = send::post(&endpoint, b"{}".to_vec()).await.unwrap_err();
    assert!(refused.contains("answers 400: why"), "{refused}");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = send::post(&format!("http://{gone}"), b"{}".to_vec()).await.unwrap_err();
    assert!(nobody.contains("is a collector listening there?"), "{nobody}");
    assert!(send::post("https://127.0.0.1:1", Vec::new()).await.unwrap_err().contains("no plain HTTP"));
}
