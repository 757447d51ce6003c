//! Servers that are not there, are slow, talk nonsense or vanish: nothing is told, and they are asked again at the pace.

use super::clouds::{AzureVm, Ec2, Gce, Own};
use super::fake::{Mood, Said, at, http_date};
use super::*;
use crate::notice::http::Query;

const MOODS: [Mood; 9] = [
    Mood::Refuses,
    Mood::Unreachable,
    Mood::Mute,
    Mood::HangsUp,
    Mood::CutsOff,
    Mood::Garbage,
    Mood::Endless,
    Mood::Portal,
    Mood::Redirects,
];

/// A source through all troubles: before its first word, while it has nothing to say, and while its notice stands.
async fn through_trouble<C: Cloud>(source: &str, new: fn() -> C, announce: fn(&C), take_back: fn(&C)) {
    for mood in MOODS {
        let net = Net::new(new());
        net.is(mood);
        // The first answer of Azure may be slow, so a mute service is given that time.
        let mut notices = listen(&[source], &net);
        assert_eq!(within(&mut notices, 300).await, None, "{source}, {mood:?} from the beginning");
        net.is(Mood::Proper);
        assert_eq!(within(&mut notices, 200).await, None, "{source}, {mood:?} is over");
        net.is(mood);
        announce(&net.cloud);
        // A question that Compute Engine has kept since it was well is answered.
        let told = within(&mut notices, if source == "gcp" { 12 } else { 0 }).await;
        assert!(told.is_none() || source == "gcp", "{source}, {mood:?} hides a notice");
        let asked = net.asked().len();
        assert_eq!(within(&mut notices, 60).await, None, "{source}, {mood:?} hides a notice");
        let again = net.asked().len() - asked;
        assert!((20..=62).contains(&again), "{source}, {mood:?}: asked {again} times in a minute");
        net.is(Mood::Proper);
        if told.is_none() {
            preempted(&mut notices, 14).await;
        }
        net.is(mood);
        assert_eq!(within(&mut notices, 120).await, None, "{source}, {mood:?} is no cancellation");
        take_back(&net.cloud);
        assert_eq!(within(&mut notices, 60).await, None, "{source}, {mood:?} hides the end");
        net.is(Mood::Proper);
        assert!(cancelled(&mut notices, 14).await.starts_with(source), "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ec2_in_trouble_is_silent() {
    let announce = |cloud: &Ec2| cloud.act("terminate", at(9000));
    through_trouble("aws", Ec2::default, announce, |cloud| cloud.set(|state| state.action = None)).await;
}

#[tokio::test(start_paused = true)]
async fn compute_engine_in_trouble_is_silent() {
    let (new, take_back) = (|| Gce::new("FALSE", "NONE"), |cloud: &Gce| cloud.set("FALSE", "NONE"));
    through_trouble("gcp", new, |cloud| cloud.set("FALSE", "TERMINATE_ON_HOST_MAINTENANCE"), take_back).await;
}

#[tokio::test(start_paused = true)]
async fn azure_in_trouble_is_silent() {
    let announce = |cloud: &AzureVm| {
        cloud.set(&[serde_json::json!({
            "EventId": "A", "EventType": "Preempt", "EventStatus": "Scheduled", "Resources": ["worker_1"],
            "NotBefore": http_date(at(9000)),
        })]);
    };
    through_trouble("azure", || AzureVm::new(seconds(100)), announce, |cloud| cloud.set(&[])).await;
}

#[tokio::test(start_paused = true)]
async fn a_url_in_trouble_is_silent() {
    let (new, announce) = (|| Own::new(Said::new(204, "")), |cloud: &Own| cloud.set(Said::new(200, "{}")));
    through_trouble("http://warden/leave", new, announce, |cloud| cloud.set(Said::new(204, ""))).await;
}

/// Every cloud is asked at the same address; being on another one is no notice and no cancellation.
#[tokio::test(start_paused = true)]
async fn another_clouds_server_is_silent() {
    let all = ["aws", "gcp", "azure"];
    let ec2 = Net::new(Ec2::default());
    ec2.cloud.act("terminate", at(121));
    let mut notices = listen(&all, &ec2);
    let first = within(&mut notices, 1).await;
    assert!(matches!(&first, Some(Notice::Preempt { source, .. }) if source == "aws"), "{first:?}");
    assert_eq!(within(&mut notices, 100).await, None);
    ec2.cloud.set(|state| state.action = None);
    assert_eq!(cancelled(&mut notices, 2).await, "aws");

    let gce = Net::new(Gce::new("TRUE", "NONE"));
    let first = within(&mut listen(&all, &gce), 1).await;
    assert!(matches!(&first, Some(Notice::Preempt { source, .. }) if source == "gcp/preempted"), "{first:?}");

    // A server that says yes to everything is none of them.
    let portal = Net::new(Own::new(Said::new(200, "TRUE")));
    assert_eq!(within(&mut listen(&all, &portal), 300).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_read_to_its_bound_and_no_further() {
    let net = Net::new(Own::new(Said::new(200, "x".repeat(64 << 10))));
    let get = || Query::get("http://warden/".into(), &[]);
    assert_eq!(client(&net).send(get()).await.unwrap().body.len(), 64 << 10);
    net.cloud.set(Said::new(200, "x".repeat((64 << 10) + 1)));
    let error = client(&net).send(get()).await.unwrap_err().to_string();
    assert_eq!(error, "the body cannot be read: length limit exceeded");
    net.cloud.set(Said { headers: vec![("x-long", "y".repeat(32 << 10))], ..Said::new(200, "") });
    assert!(client(&net).send(get()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_once_nobody_listens() {
    let net = Net::new(Gce::new("FALSE", "NONE"));
    let mut notices = listen(&["aws", "gcp", "azure", "http://warden/leave"], &net);
    assert_eq!(within(&mut notices, 9).await, None);
    drop(notices);
    tokio::time::sleep(seconds(1)).await;
    let asked = net.asked().len();
    assert!(asked > 8, "{asked}");
    tokio::time::sleep(seconds(600)).await;
    assert_eq!(net.asked().len(), asked);
}

#[tokio::test(start_paused = true)]
async fn without_sources_the_channel_is_closed() {
    assert_eq!(watch(&section(&[])).recv().await, None);
}
