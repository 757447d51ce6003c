//! Chains of causes: from the symptom to who is at fault.

use everstep_actors::desk::view::{ErrorView, Scope, View};

use super::super::fixtures::{NOW, actor, checkpoint, failure, healthy, lane, link, node, node_ref, of_node, rank, run, set, shard};
use super::*;

fn references(chain: &Chain) -> Vec<&str> {
    chain.links.iter().map(|link| link.reference.as_str()).collect()
}

fn fault(chain: &Chain) -> &str {
    chain.at_fault.as_deref().unwrap_or_default()
}

fn remedy(chain: &Chain) -> &str {
    chain.remedy.as_deref().unwrap_or_default()
}

/// The run waits, and ranks 0 and 1 of three wait in `exchange` for rank 2.
fn held_up() -> View {
    let mut view = run(healthy(3), "run", "training", |run| run.progress_age_ms = 60_000);
    for n in 0..2 {
        view = rank(view, &format!("rank/{n}"), "waiting", |rank| rank.phase = "exchange".into());
    }
    view
}

fn actor_of(n: u8) -> String {
    format!("actor/{}/rank", node(n))
}

#[test]
fn a_run_that_trains_does_not_wait() {
    let chain = waiting(&healthy(3));
    assert!(!waits(&healthy(3)) && chain.answer.contains("does not wait"), "{chain:?}");
    assert_eq!((chain.at_fault, chain.remedy), (None, None));
}

#[test]
fn the_chain_leads_from_the_run_over_the_rank_that_others_wait_for_to_its_stuck_actor() {
    let view = actor(held_up(), &actor_of(3), "handling", |actor| {
        (actor.handler, actor.handler_ms, actor.depth) = (Some("decode".into()), Some(59_000), 40);
    });
    let chain = waiting(&view);
    assert_eq!(references(&chain), ["run", "rank/0", "rank/2", node_ref(3).as_str(), actor_of(3).as_str()]);
    assert_eq!(fault(&chain), actor_of(3));
    assert!(chain.links[1].says.contains("2 ranks in exchange") && chain.links[4].says.contains("`decode` for 59 s"), "{chain:?}");
    assert!(remedy(&chain).contains("everstep kill"));
    let text = chain.text();
    assert!(text.iter().all(|line| line.chars().count() <= WIDTH) && text.join(" ").contains("--yes"), "{text:#?}");
}

#[test]
fn a_silent_node_is_at_fault_before_anything_else() {
    let view = of_node(held_up(), &node_ref(2), "silent", |node| node.heard_age_ms = 7_000);
    let chain = waiting(&view);
    assert_eq!((references(&chain), fault(&chain)), (vec!["run", "rank/1", node_ref(2).as_str()], node_ref(2).as_str()));
    assert!(remedy(&chain).contains("box1") && chain.links[2].says.contains("7.0 s"), "{chain:?}");
}

#[test]
fn what_only_passes_on_a_failure_leads_to_its_root() {
    let view = actor(held_up(), &actor_of(3), "failed", |actor| {
        actor.error = Some(failure("the exchange ended", "its link closed", &actor_of(2)))
    });
    let view = actor(view, &actor_of(2), "failed", |actor| actor.error = Some(failure("no space", "no space is left", "")));
    let chain = waiting(&view);
    assert_eq!(references(&chain).last(), Some(&actor_of(2).as_str()));
    assert_eq!(fault(&chain), actor_of(2));
    let circle = actor(view, &actor_of(2), "failed", |actor| actor.error = Some(failure("x", "y", &actor_of(3))));
    assert_eq!(waiting(&circle).links.len(), 6, "two that blame each other end the chain");
    let away = actor(held_up(), &actor_of(3), "failed", |actor| actor.error = Some(failure("x", "y", "node/n99999999")));
    assert_eq!(fault(&waiting(&away)), "node/n99999999", "what cannot be seen is named");
}

#[test]
fn old_failures_explain_nothing() {
    let old = ErrorView { at_ms: NOW - 3_600_000, ..failure("long ago", "x", &actor_of(1)) };
    let chain = waiting(&actor(held_up(), &actor_of(3), "idle", |actor| actor.error = Some(old)));
    assert_eq!(chain.at_fault, None, "{chain:?}");
    let mended = ErrorView { mended_ms: Some(NOW), ..failure("a moment ago", "x", &actor_of(1)) };
    let chain = waiting(&actor(held_up(), &actor_of(3), "idle", |actor| actor.error = Some(mended)));
    assert_eq!(chain.at_fault, None, "{chain:?}");
    assert!(remedy(&chain).contains("history"));
}

#[test]
fn a_quiet_link_is_at_fault_when_all_wait() {
    let reference = format!("link/{}/{}", node(1), node(3));
    let mut view = rank(held_up(), "rank/2", "waiting", |rank| rank.phase = "exchange".into());
    view = link(view, &reference, "quiet", |link| link.heard_age_ms = 2_500);
    let chain = waiting(&view);
    assert_eq!(fault(&chain), reference);
    assert!(remedy(&chain).contains("UDP"), "{chain:?}");
    let down = of_node(view, &node_ref(3), "silent", |_| {});
    assert_eq!(fault(&waiting(&down)), node_ref(3), "a link to a dead node is not at fault itself");
}

#[test]
fn the_run_s_own_sentence_has_a_remedy() {
    let remedies = [
        ("waiting for 2 more of 4 ranks", "cluster.ranks"),
        ("the store is away, membership is frozen: x", "store"),
        ("copies of some shards are out of sight; waiting a moment for r1", "checkpoint"),
        ("the last checkpoint, after step 9, cannot be saved: no space is left", "free space"),
        ("2 of at least 3 ranks are there; the state after 9 steps is kept twice, but cannot be saved: x", "free space"),
    ];
    for (sentence, words) in remedies {
        let view = run(healthy(2), "run", "waiting", |run| run.waiting = Some(sentence.into()));
        let chain = waiting(&view);
        assert!(chain.answer.contains(sentence) && remedy(&chain).contains(words), "{chain:?}");
    }
    let paused = run(healthy(2), "run", "paused", |run| run.paused = true);
    assert!(remedy(&waiting(&paused)).contains("everstep resume"));
    let ended = run(healthy(2), "run", "ended", |run| run.waiting = Some("stopped".into()));
    assert!(waiting(&ended).answer.contains("ended") && remedy(&waiting(&ended)).contains("same command"));
    let mut store = run(healthy(2), "run", "silent", |_| {});
    store.scope = Scope::Store;
    assert!(remedy(&waiting(&store)).contains("no node answers"));
    store.items.clear();
    assert!(waiting(&store).answer.contains("nobody knows"));
}

#[test]
fn a_rank_that_computes_longer_than_the_median_is_named_with_its_host() {
    let view = rank(healthy(4), "rank/2", "computing", |rank| set(&mut rank.phases, "compute", 1.0));
    let chain = slow(&view);
    assert_eq!((references(&chain), fault(&chain)), (vec!["run", "rank/2", node_ref(3).as_str()], node_ref(3).as_str()));
    assert!(chain.answer.contains("rank/2 on box2") && chain.answer.contains("2.0 ×"), "{chain:?}");
    let twice_the_lanes = rank(view, "rank/2", "computing", |rank| rank.lanes = (4, 8));
    assert_eq!(slow(&twice_the_lanes).at_fault, None, "twice the lanes take twice the time");
    let a_bit = rank(healthy(4), "rank/2", "computing", |rank| set(&mut rank.phases, "compute", 0.6));
    assert_eq!(slow(&a_bit).at_fault, None);
    let of_two = rank(healthy(2), "rank/0", "computing", |rank| set(&mut rank.phases, "compute", 1.0));
    assert_eq!(fault(&slow(&of_two)), node_ref(1), "of two the slower one");
    let by_pace = rank(healthy(2), "rank/1", "computing", |rank| (rank.pace, rank.phases) = (1.5, Default::default()));
    assert_eq!(fault(&slow(&by_pace)), node_ref(2), "where phases are not known its pace is");
}

#[test]
fn late_images_lead_to_the_loader() {
    let mut view = run(healthy(2), "run", "training", |run| set(&mut run.phases, "data", 0.9));
    view = rank(view, "rank/1", "computing", |rank| set(&mut rank.phases, "data", 1.2));
    view = actor(view, &actor_of(2), "idle", |actor| actor.actor_kind = "loader".into());
    let chain = slow(&view);
    assert_eq!(fault(&chain), actor_of(2));
    assert!(chain.answer.contains("images come late") && remedy(&chain).contains("data.cache"), "{chain:?}");
}

#[test]
fn a_network_that_holds_all_up_leads_to_the_slowest_link() {
    let mut view = run(healthy(3), "run", "training", |run| set(&mut run.phases, "exchange", 3.0));
    let reference = format!("link/{}/{}", node(1), node(3));
    view = link(view, &reference, "up", |link| link.rtt_ms = 80.0);
    let chain = slow(&view);
    assert_eq!(fault(&chain), reference);
    assert!(chain.answer.contains("network") && chain.links[1].says.contains("80.0 ms"), "{chain:?}");
}

#[test]
fn a_run_that_keeps_pace_is_told_to_with_its_breakdown() {
    let chain = slow(&healthy(4));
    assert!(chain.answer.contains("nothing is unusual") && chain.answer.contains("compute 64 %"), "{chain:?}");
    let mut empty = healthy(0);
    empty = run(empty, "run", "waiting", |run| run.phases.clear());
    assert!(slow(&empty).answer.contains("no step was committed"));
}

#[test]
fn every_kind_of_thing_can_be_asked_about() {
    let view = healthy(2);
    for item in &view.items {
        let chain = about(&view, &item.reference).unwrap();
        assert_eq!((chain.at_fault.as_deref(), chain.about.as_str()), (None, item.reference.as_str()), "{chain:?}");
        assert!(!chain.links.is_empty());
    }
    assert!(about(&view, "rank/9").unwrap_err().contains("rank/0"));
    let behind = shard(of_node(view.clone(), &node_ref(2), "silent", |_| {}), "shard/u0/0", "behind", |shard| shard.lag = 9);
    let chain = about(&behind, "shard/u0/0").unwrap();
    assert_eq!((references(&chain), fault(&chain)), (vec!["shard/u0/0", "rank/1", node_ref(2).as_str()], node_ref(2).as_str()));
    let damaged = checkpoint(view.clone(), "checkpoint/95", "damaged", |_| {});
    assert!(remedy(&about(&damaged, "checkpoint/95").unwrap()).contains("verify"));
    let waits = lane(view, "lane/2", "waiting", |lane| lane.doing = "waits for gather".into());
    let chain = about(&actor(waits, &actor_of(2), "failed", |_| {}), "lane/2").unwrap();
    assert_eq!(fault(&chain), actor_of(2));
    assert!(chain.answer.contains("lane/2 is waiting for 1 min 00 s"), "{chain:?}");
}

#[test]
fn one_rank_that_waits_for_images_is_named_although_the_mean_is_fine() {
    let view = rank(healthy(4), "rank/3", "computing", |rank| set(&mut rank.phases, "data", 0.9));
    assert_eq!(fault(&slow(&view)), node_ref(4));
}

#[test]
fn of_those_that_others_wait_for_the_one_in_the_earliest_phase_is_at_fault() {
    let mut view = rank(held_up(), "rank/1", "computing", |rank| rank.phase = "update".into());
    view = rank(view, "rank/2", "computing", |rank| rank.phase = "data".into());
    assert_eq!(references(&waiting(&view))[..3], ["run", "rank/0", "rank/2"]);
    let behind = rank(view, "rank/1", "computing", |rank| rank.step = 99);
    assert_eq!(references(&waiting(&behind))[2], "rank/1", "a step behind is further behind");
}

#[test]
fn a_node_that_leaves_says_why_and_how_it_stays() {
    let view = of_node(held_up(), &node_ref(3), "draining", |node| node.draining = Some("drained by an operator".into()));
    let chain = waiting(&view);
    assert_eq!(fault(&chain), node_ref(3));
    assert!(remedy(&chain).contains("everstep undrain") && chain.links[3].says.contains("drained by an operator"), "{chain:?}");
}
