//! Each lint: a view that trips it, and one that does not.

use std::collections::BTreeSet;

use everstep_actors::event::Event;
use everstep_actors::protocol::ids::Step;

use super::super::fixtures::{
    NOW, actor, at, checkpoint, committed, epoch, failure, healthy, link, lost, node, node_ref, of_node, rank, run, save_failed, saved,
    set, shard, with,
};
use super::*;

/// What is seen of a run.
type Sight = (View, Vec<Recorded>);

fn well() -> Sight {
    (healthy(3), vec![epoch(NOW - 60_000, 2, 0, 3, "start"), committed(NOW - 30_000, 1, 2), saved(NOW - 10_000, 1, 1.0)])
}

fn found(view: &View, events: &[Recorded]) -> BTreeSet<String> {
    diagnose(view, events).findings.into_iter().map(|finding| finding.lint).collect()
}

fn odd(at_ms: u64) -> Recorded {
    at(at_ms, Event::NodeOdd { node: node(2), because: "another sum".into() })
}

fn skipped(at_ms: u64, step: u64) -> Recorded {
    at(at_ms, Event::StepSkipped { step: Step(step), because: "the loss is no number".into() })
}

#[test]
fn a_healthy_run_trips_no_lint_and_every_lint_looked() {
    let (view, events) = well();
    let diagnosis = diagnose(&view, &events);
    assert!(diagnosis.healthy && diagnosis.findings.is_empty(), "{diagnosis:?}");
    assert_eq!((diagnosis.checked.len(), diagnosis.left_out), (CATALOGUE.len(), BTreeMap::new()));
    assert!(diagnosis.summary.starts_with("healthy: step 100 of 1000, 3 ranks"), "{}", diagnosis.summary);
}

/// For each lint a run that is just beyond its threshold, and one that is just within it.
fn cases() -> Vec<(&'static str, Sight, Sight)> {
    let (view, events) = well();
    let of_view = |view: View| (view, events.clone());
    let of_events = |more: Vec<Recorded>| (view.clone(), [events.clone(), more].concat());
    let named = |n: u8| format!("actor/{}/rank", node(n));
    let edge = format!("link/{}/{}", node(1), node(3));
    let mut alone = view.clone();
    alone.scope = Scope::Node;
    let mut cut = view.clone();
    cut.missing.push("node/n03030303 did not answer".into());
    let nodes = |state: &str, age: u64| of_view(of_node(view.clone(), &node_ref(2), state, |node| node.heard_age_ms = age));
    let progress = |state: &str, age: u64| of_view(run(view.clone(), "run", state, |run| run.progress_age_ms = age));
    let waits = |age: u64| of_view(run(view.clone(), "run", "waiting", |run| (run.waiting, run.progress_age_ms) = (Some("x".into()), age)));
    let pauses = |state: &str, paused: bool| of_view(run(view.clone(), "run", state, |run| run.paused = paused));
    let fails = |state: &str| of_view(actor(view.clone(), &named(2), state, |actor| actor.error = Some(failure("x", "y", ""))));
    let works = |age: u64| {
        of_view(actor(view.clone(), &named(2), "handling", |actor| (actor.handler, actor.handler_ms) = (Some("step".into()), Some(age))))
    };
    let fills = |depth: u64| of_view(actor(view.clone(), &named(2), "idle", |actor| actor.depth = depth));
    let anew = |restarts: u32| of_view(actor(view.clone(), &named(2), "idle", |actor| actor.restarts = restarts));
    let computes = |seconds: f64| of_view(rank(view.clone(), "rank/1", "computing", |rank| set(&mut rank.phases, "compute", seconds)));
    let data = |seconds: f64| of_view(run(view.clone(), "run", "training", |run| set(&mut run.phases, "data", seconds)));
    let losses = |packets: u64| of_view(link(view.clone(), &edge, "up", |link| link.lost_packets = packets));
    let heard = |age: u64| of_view(link(view.clone(), &edge, "up", |link| link.heard_age_ms = age));
    let copies = |copies: &[&str]| {
        of_view(shard(view.clone(), "shard/u0/0", "held", |shard| shard.copies = copies.iter().map(|copy| (*copy).to_owned()).collect()))
    };
    let lags = |lag: u64| of_view(shard(view.clone(), "shard/u0/0", "behind", |shard| shard.lag = lag));
    let saved_ago = |age: u64| of_view(with(view.clone(), "checkpoint/95", |item| item.since_ms = NOW - age));
    let ledger = |ledger: u64| of_view(run(view.clone(), "run", "training", |run| (run.step, run.ledger) = (1_000, ledger)));
    let clock = |by: u64| of_view(with(view.clone(), &node_ref(2), |item| item.as_of_ms = NOW - by));
    let until = |until: u64| of_view(of_node(view.clone(), &node_ref(2), "in", |node| node.certificate_until_ms = Some(until)));
    let loss = |loss: f64| of_view(run(view.clone(), "run", "training", |run| set(&mut run.metrics, "loss", loss)));
    let losing = |every: u64| of_events((0..3).map(|n| lost(NOW - 5_000 - every * n, 3, "x")).collect());
    let epochs = |number: u64| of_events((0..number).map(|n| epoch(NOW - 1_000 * n, 10 + n, 1, 3, "x")).collect());
    let odd = |age: u64| of_events(vec![odd(NOW - age)]);
    let full = "no space is left for file:///run; free some or keep fewer checkpoints";
    vec![
        ("leader-silent", of_view(alone), of_view(view.clone())),
        ("member-silent", nodes("in", 5_000), nodes("in", 4_999)),
        ("no-progress", progress("training", 60_000), progress("training", 59_999)),
        ("run-waits-long", waits(300_000), waits(299_999)),
        ("run-paused", pauses("paused", true), pauses("training", false)),
        ("actor-failed", fails("failed"), fails("idle")),
        ("actor-stuck", works(30_001), works(30_000)),
        ("mailbox-filling", fills(32), fills(31)),
        ("actor-restarts", anew(3), anew(2)),
        ("slow-rank", computes(0.651), computes(0.649)),
        ("slow-data", data(0.4), data(0.3)),
        ("link-lossy", losses(8_400), losses(8_300)),
        ("link-quiet", heard(1_500), heard(1_499)),
        ("shard-without-copy", copies(&["rank/0"]), copies(&["rank/0", "rank/2"])),
        ("replica-lag", lags(5), lags(4)),
        ("checkpoint-old", saved_ago(3_600_000), saved_ago(3_599_999)),
        ("checkpoint-failing", of_events(vec![save_failed(NOW, 90, "denied")]), of_events(vec![save_failed(NOW - 20_000, 90, "denied")])),
        ("disk-full", of_events(vec![save_failed(NOW, 90, full)]), of_events(vec![save_failed(NOW, 90, "denied")])),
        ("checkpoint-damaged", of_view(checkpoint(view.clone(), "checkpoint/95", "damaged", |_| {})), of_view(view.clone())),
        ("ledger-behind", ledger(743), ledger(744)),
        ("clock-skew", clock(30_001), clock(30_000)),
        ("certificate-expiring", until(NOW + 4 * 3_600_000 - 1), until(NOW + 4 * 3_600_000)),
        ("flapping-node", losing(40_000), losing(400_000)),
        ("epochs-changing", epochs(5), epochs(4)),
        (
            "steps-skipped",
            of_events((0..3).map(|n| skipped(NOW - n, n)).collect()),
            of_events((0..2).map(|n| skipped(NOW - n, n)).collect()),
        ),
        ("loss-not-finite", loss(f64::NAN), loss(1e6)),
        ("odd-node", odd(86_000_000), odd(87_000_000)),
        ("answer-incomplete", of_view(cut), of_view(view.clone())),
    ]
}

#[test]
fn every_lint_speaks_up_beyond_its_threshold_and_not_before() {
    let cases = cases();
    for (name, (bad, bad_events), (good, good_events)) in &cases {
        assert!(found(bad, bad_events).contains(*name), "{name} has to trip: {:?}", found(bad, bad_events));
        assert!(!found(good, good_events).contains(*name), "{name} must not trip");
        assert!(!diagnose(good, good_events).left_out.contains_key(*name), "{name} was not even looked at");
    }
    let tested: BTreeSet<&str> = cases.iter().map(|(name, _, _)| *name).collect();
    let all: BTreeSet<&str> = CATALOGUE.iter().map(|lint| lint.name).collect();
    assert_eq!((tested, cases.len()), (all, CATALOGUE.len()));
}

#[test]
fn only_faults_make_a_run_unhealthy_and_they_come_first() {
    for (name, (bad, events), _) in cases() {
        let diagnosis = diagnose(&bad, &events);
        let fault = diagnosis.findings.iter().any(|finding| finding.grade == Grade::Fault);
        assert_eq!(diagnosis.healthy, !fault, "{name}");
        assert!(diagnosis.findings.is_sorted_by_key(|finding| finding.grade), "{name}");
        let text = diagnosis.text();
        assert!(text.iter().all(|line| line.chars().count() <= WIDTH) && text.join("\n").contains(name), "{name}: {text:#?}");
    }
}

#[test]
fn what_is_not_durable_is_judged_by_what_the_leader_remembers() {
    let (mut view, events) = well();
    assert!(!found(&view, &events).contains("disk-full"));
    let full = save_failed(NOW, 90, "no space is left for file:///run; free some or keep fewer checkpoints");
    view.items.push(Item::of_event(&full));
    assert!(found(&view, &events).contains("disk-full"), "the log on the full disk cannot tell");
    assert!(found(&view, &[]).contains("disk-full"), "nothing is durable at all");
    view.items.push(Item::of_event(&odd(NOW - 1_000)));
    assert!(found(&view, &events).contains("odd-node"));
    view.items.push(Item::of_event(&saved(NOW + 1, 95, 1.0)));
    assert!(!found(&view, &events).contains("disk-full"), "there is space again");
    // What stands in both counts once.
    let losses: Vec<Recorded> = (0..2).map(|n| lost(NOW - 5_000 - 40_000 * n, 3, "x")).collect();
    view.items.extend(losses.iter().map(Item::of_event));
    assert!(!found(&view, &[events, losses].concat()).contains("flapping-node"));
}

#[test]
fn skipped_steps_of_long_ago_are_over() {
    let (view, mut events) = well();
    events.extend((0..9).map(|n| skipped(NOW - 500_000 - n, n)));
    events.extend((0..200).map(|n| committed(NOW - 400_000 + n, 100 + n, 2)));
    assert!(!found(&view, &events).contains("steps-skipped"));
}

#[test]
fn what_the_store_alone_cannot_know_is_left_out_aloud() {
    let (mut view, events) = well();
    view.scope = Scope::Store;
    view.items.retain(|item| ["run", "checkpoint/95"].contains(&item.reference.as_str()));
    let diagnosis = diagnose(&view, &events);
    assert!(
        diagnosis.left_out["actor-stuck"].contains("no node answers") && diagnosis.left_out.contains_key("clock-skew"),
        "{diagnosis:?}"
    );
    assert!(!diagnosis.healthy, "nobody leads it");
    let over = run(view, "run", "ended", |_| {});
    let diagnosis = diagnose(&over, &events);
    assert!(diagnosis.healthy && diagnosis.left_out["leader-silent"].contains("ended"), "{diagnosis:?}");
    assert!(diagnose(&over, &[]).left_out["odd-node"].contains("no events"));
}

#[test]
fn every_lint_is_documented_within_the_width() {
    let lines = catalogue(CATALOGUE);
    assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
    for lint in CATALOGUE {
        assert!(!lint.what.is_empty() && !lint.threshold.is_empty() && !lint.remedy.is_empty(), "{}", lint.name);
        assert!(lines.contains(&format!("{} ({})", lint.name, lint.grade.name())));
    }
}

#[test]
fn an_old_checkpoint_that_holds_everything_is_fine() {
    let (view, events) = well();
    let old = with(run(view, "run", "waiting", |run| run.step = 95), "checkpoint/95", |item| item.since_ms = NOW - 9_000_000);
    assert!(!found(&old, &events).contains("checkpoint-old"));
}
