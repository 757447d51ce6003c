//! Compute Engine: two keys, waited for.

use super::clouds::Gce;
use super::*;
use crate::notice::http::Query;

const PREEMPTED: &str = "GET /computeMetadata/v1/instance/preempted";

#[tokio::test(start_paused = true)]
async fn the_fake_refuses_what_the_server_refuses() {
    let client = client(&Net::new(Gce::new("FALSE", "NONE")));
    let status = async |headers: &[(&str, &str)]| {
        let url = "http://169.254.169.254/computeMetadata/v1/instance/preempted".to_owned();
        client.send(Query::get(url, headers)).await.unwrap().status.as_u16()
    };
    assert_eq!(status(&[]).await, 403);
    assert_eq!(status(&[("metadata-flavor", "google?")]).await, 403);
    assert_eq!(status(&[("metadata-flavor", "Google"), ("x-forwarded-for", "10.0.0.1")]).await, 403);
    assert_eq!(status(&[("metadata-flavor", "Google")]).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_preemption_is_told_the_moment_it_is_decided_and_once() {
    let net = Net::new(Gce::new("FALSE", "NONE"));
    let mut notices = listen(&["gcp"], &net);
    assert_eq!(within(&mut notices, 35).await, None);
    net.cloud.set("TRUE", "NONE");
    let expected = Notice::Preempt {
        source: "gcp/preempted".into(),
        kind: Kind::Terminate,
        deadline: Some(seconds(30)),
        because: "Compute Engine preempts this instance".into(),
    };
    assert_eq!(within(&mut notices, 0).await, Some(expected), "the server had kept the question");
    assert_eq!(within(&mut notices, 60).await, None);
    // At once, two seconds later for the tag, and then every ten seconds.
    let times: Vec<u64> = net.asked().iter().filter(|(_, what)| what == PREEMPTED).map(|(at, _)| at.as_secs()).collect();
    assert_eq!(times[..4], [0, 2, 12, 22]);
}

#[tokio::test(start_paused = true)]
async fn a_preemption_of_unknown_age_is_immediate_and_a_gap_is_taken_off() {
    let net = Net::new(Gce::new("TRUE", "NONE"));
    assert_eq!(preempted(&mut listen(&["gcp"], &net), 0).await, (Kind::Terminate, Some(Duration::ZERO)));

    let net = Net::new(Gce::new("FALSE", "NONE").without_tags());
    let mut notices = listen(&["gcp"], &net);
    assert_eq!(within(&mut notices, 7).await, None);
    net.cloud.set("TRUE", "NONE");
    assert_eq!(preempted(&mut notices, 1).await, (Kind::Terminate, Some(seconds(28))), "it may be as old as the last answer");
    let times: Vec<u64> = net.asked().iter().filter(|(_, what)| what == PREEMPTED).map(|(at, _)| at.as_secs()).collect();
    assert_eq!(times, [0, 2, 4, 6, 8], "a server that cannot wait is asked at the pace");
}

#[tokio::test(start_paused = true)]
async fn maintenance_that_ends_the_instance_is_a_notice_and_a_migration_is_none() {
    let net = Net::new(Gce::new("FALSE", "NONE"));
    let mut notices = listen(&["gcp"], &net);
    assert_eq!(within(&mut notices, 5).await, None);
    net.cloud.set("FALSE", "MIGRATE_ON_HOST_MAINTENANCE");
    assert_eq!(within(&mut notices, 30).await, None);
    net.cloud.set("FALSE", "TERMINATE_ON_HOST_MAINTENANCE");
    assert_eq!(preempted(&mut notices, 2).await, (Kind::Maintenance, Some(seconds(60))));
    net.cloud.set("TRUE", "TERMINATE_ON_HOST_MAINTENANCE");
    assert_eq!(preempted(&mut notices, 2).await, (Kind::Terminate, Some(seconds(30))), "the earlier one counts");
    net.cloud.set("FALSE", "TERMINATE_ON_HOST_MAINTENANCE");
    assert_eq!(within(&mut notices, 30).await, None, "one still stands");
    net.cloud.set("FALSE", "NONE");
    assert_eq!(cancelled(&mut notices, 2).await, "gcp/maintenance-event");
}
