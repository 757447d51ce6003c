//! EC2: tokens, actions, advice.

use hyper::body::Bytes;
use hyper::{HeaderMap, Method, StatusCode};

use super::clouds::Ec2;
use super::fake::{Mood, at};
use super::*;
use crate::notice::http::{PROMPT, Query, Reply};
use crate::notice::moment::until;

const ACTION: &str = "GET /latest/meta-data/spot/instance-action";
const REBALANCE: &str = "GET /latest/meta-data/events/recommendations/rebalance";
const PUT: &str = "PUT /latest/api/token";

/// The fake is worth its name: without this the others would prove little.
#[tokio::test(start_paused = true)]
async fn the_fake_refuses_what_the_service_refuses() {
    let client = client(&Net::new(Ec2::default()));
    let status = async |method: Method, path: &str, headers: &[(&str, &str)]| {
        let url = format!("http://169.254.169.254{path}");
        client.send(Query { method, url, headers, body: String::new(), within: PROMPT }).await.unwrap().status.as_u16()
    };
    let (token, action) = ("/latest/api/token", "/latest/meta-data/spot/instance-action");
    assert_eq!(status(Method::GET, action, &[]).await, 401);
    assert_eq!(status(Method::GET, action, &[("x-aws-ec2-metadata-token", "guessed")]).await, 401);
    assert_eq!(status(Method::GET, token, &[]).await, 405);
    assert_eq!(status(Method::PUT, token, &[]).await, 400);
    let life = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
    assert_eq!(status(Method::PUT, token, &[("x-aws-ec2-metadata-token-ttl-seconds", "21601")]).await, 400);
    assert_eq!(status(Method::PUT, token, &[life, ("x-forwarded-for", "10.0.0.1")]).await, 403);
    assert_eq!(status(Method::PUT, token, &[life]).await, 200);
    assert_eq!(status(Method::GET, action, &[("x-aws-ec2-metadata-token", "AQAE0==")]).await, 404);
}

#[tokio::test(start_paused = true)]
async fn an_interruption_is_told_once_and_taken_back() {
    let net = Net::new(Ec2::default());
    let mut notices = listen(&["aws"], &net);
    assert_eq!(within(&mut notices, 61).await, None);
    net.cloud.act("terminate", at(181));
    let notice = within(&mut notices, 2).await;
    let because = format!("EC2 reclaims this spot instance: terminate at {}", at(181).format("%FT%TZ"));
    // Asked at 62 s; a second is taken off because the server's clock shows whole seconds.
    let expected = Notice::Preempt { source: "aws".into(), kind: Kind::Terminate, deadline: Some(seconds(118)), because };
    assert_eq!(notice, Some(expected));
    assert_eq!(within(&mut notices, 60).await, None, "the same notice, asked thirty times");
    net.cloud.set(|state| state.action = None);
    assert_eq!(cancelled(&mut notices, 2).await, "aws");
    assert_eq!(within(&mut notices, 60).await, None);
    assert_eq!(net.count(PUT), 1, "a token serves for hours");
    assert_eq!(net.count(REBALANCE), 0, "advice is not asked for");
}

#[tokio::test(start_paused = true)]
async fn every_action_has_its_kind_and_an_earlier_time_is_told_again() {
    let net = Net::new(Ec2::default());
    net.cloud.act("stop", at(121));
    let mut notices = listen(&["aws"], &net);
    assert_eq!(preempted(&mut notices, 1).await, (Kind::Stop, Some(seconds(120))));
    net.cloud.act("stop", at(500));
    assert_eq!(within(&mut notices, 10).await, None, "a later time changes nothing");
    net.cloud.act("hibernate", at(5));
    assert_eq!(preempted(&mut notices, 2).await, (Kind::Hibernate, Some(Duration::ZERO)));
    net.cloud.set(|state| state.action = None);
    assert_eq!(cancelled(&mut notices, 2).await, "aws");
    net.cloud.set(|state| state.action = Some(r#"{"action": "evaporate", "time": "soon"}"#.into()));
    assert_eq!(preempted(&mut notices, 2).await, (Kind::Terminate, None));
}

#[tokio::test(start_paused = true)]
async fn a_notice_whose_time_is_over_is_immediate() {
    let net = Net::new(Ec2::default());
    net.cloud.act("terminate", at(-30));
    assert_eq!(preempted(&mut listen(&["aws"], &net), 1).await, (Kind::Terminate, Some(Duration::ZERO)));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_run_out_is_replaced() {
    let net = Net::new(Ec2::default());
    let slow = Preemption { poll: 60.0, ..section(&["aws"]) };
    let mut notices = watch_with(&slow, client(&net));
    assert_eq!(within(&mut notices, 6 * 3600 + 30).await, None);
    assert_eq!(net.count(PUT), 2, "six hours and a half of a minute");
    net.cloud.forget_tokens();
    net.cloud.act("terminate", at(7 * 3600));
    preempted(&mut notices, 60).await;
    assert_eq!(net.count(PUT), 3);
}

#[tokio::test(start_paused = true)]
async fn advice_counts_where_it_is_wanted_and_an_interruption_tightens_it() {
    let net = Net::new(Ec2::default());
    net.cloud.set(|state| state.rebalance = Some(r#"{"noticeTime": "2026-11-24T08:22:00Z"}"#.into()));
    assert_eq!(within(&mut listen(&["aws"], &net), 10).await, None);
    let mut notices = watch_with(&Preemption { aws_rebalance: true, ..section(&["aws"]) }, client(&net));
    assert_eq!(preempted(&mut notices, 1).await, (Kind::Rebalance, None));
    net.cloud.act("terminate", at(1000));
    let (kind, deadline) = preempted(&mut notices, 2).await;
    assert!(kind == Kind::Terminate && deadline.is_some(), "{kind:?} {deadline:?}");
    net.cloud.set(|state| state.action = None);
    assert_eq!(within(&mut notices, 10).await, None, "the advice stands");
    net.cloud.set(|state| state.rebalance = None);
    assert_eq!(cancelled(&mut notices, 2).await, "aws");
}

#[test]
fn a_server_without_a_clock_is_read_by_the_clock_of_this_machine() {
    let reply = Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::new() };
    let moment = chrono::DateTime::from_timestamp_millis(everstep_actors::clock::wall_ms() as i64 + 3_600_000).unwrap();
    let left = until(moment, &reply);
    assert!((seconds(3000)..seconds(3600)).contains(&left), "{left:?}");
}

/// The answer to a token request is dropped on its way into a container where the hop limit is 1.
#[tokio::test(start_paused = true)]
async fn a_token_that_never_arrives_is_asked_for_again() {
    let net = Net::new(Ec2::default());
    net.cloud.act("terminate", at(600));
    net.is(Mood::Mute);
    let mut notices = listen(&["aws"], &net);
    assert_eq!(within(&mut notices, 21).await, None);
    let asked = net.asked();
    assert!(asked.iter().all(|(_, what)| what == PUT), "{asked:?}");
    assert_eq!(asked.len(), 11, "every two seconds");
    net.is(Mood::Proper);
    preempted(&mut notices, 2).await;
    assert!(net.count(ACTION) > 0);
}
