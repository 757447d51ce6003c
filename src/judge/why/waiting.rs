//! Why the run waits: from its own sentence to who keeps it.

use std::collections::BTreeMap;

use everstep_actors::desk::view::{Item, Properties, RankView, RunView, Scope, View};

use super::{Chain, Walk, ms};
use crate::judge::layout::count;

/// A step is overdue when none was committed for this long and for five times as long as one takes.
const OVERDUE_MS: u64 = 30_000;
/// The phases of a step, in order.
const PHASES: [&str; 5] = ["data", "compute", "exchange", "update", "vote"];

/// What sentences of the run mean for who reads them.
const REMEDIES: [(&str, &str); 8] = [
    (
        "cannot be saved",
        "free space where the run lives, or mend its store: it is tried again by itself; nothing is lost while the members live",
    ),
    ("store is away", "see that the store can be reached and written from the nodes; training goes on by itself when it is back"),
    ("out of sight", "bring back the nodes that the sentence names; else the run goes on from its newest checkpoint"),
    ("more of", "start more nodes with the same command, or begin with fewer: `cluster.ranks` in the config"),
    ("of at least", "start more nodes with the same command, or allow fewer: `cluster.ranks_min` in the config"),
    ("connect and load", "give the members a moment: `everstep wait 'state=training' --timeout 1m`"),
    ("stopping", "nothing: the run ends with a checkpoint, and the same command goes on from it"),
    ("was lost", "nothing: the others meet again by themselves; `everstep history --incidents` shows how long it took"),
];

pub(super) fn waits(view: &View) -> bool {
    let Some((item, run)) = run(view) else { return true };
    matches!(item.state.as_str(), "waiting" | "paused" | "silent" | "ended") || run.waiting.is_some() || run.paused || overdue(run)
}

pub(super) fn chain(view: &View) -> Chain {
    let mut walk = Walk::new(view);
    let Some((item, run)) = run(view) else {
        walk.to("run", "nobody tells anything of it");
        return walk.done("waiting", "nobody knows of the run: no node answers and the store shows nothing");
    };
    let no_step = format!("no step was committed for {}", ms(run.progress_age_ms));
    let sentence = run.waiting.clone().unwrap_or_else(|| no_step.clone());
    if item.state == "ended" {
        walk.to("run", format!("ended after {} of {} steps: {sentence}", run.step, run.steps));
        if run.step < run.steps {
            walk.remedy = Some("the same command again goes on from the newest checkpoint".into());
        }
        return walk.done("waiting", format!("the run has ended: {sentence}"));
    }
    if run.paused || item.state == "paused" {
        walk.to("run", format!("paused after step {}: {sentence}", run.step));
        walk.fault("run", "`everstep resume` lets it go on; `everstep events` shows who paused it");
        return walk.done("waiting", "the run waits because an operator paused it");
    }
    if !waits(view) {
        walk.to(
            "run",
            format!("{}, step {} of {}, the last one was committed {} ago", item.state, run.step, run.steps, ms(run.progress_age_ms)),
        );
        return walk.done("waiting", "the run does not wait");
    }
    walk.to("run", if run.waiting.is_some() { format!("{sentence}; {no_step}") } else { no_step });
    follow(&mut walk);
    if walk.remedy.is_none() {
        let known = REMEDIES.iter().find(|(words, _)| sentence.contains(words));
        walk.remedy = known.map(|(_, remedy)| (*remedy).to_owned()).or_else(|| nobody_answers(view)).or_else(|| {
            Some("nothing that the view shows is stuck: ask again in a moment, then `everstep history --incidents`".to_owned())
        });
    }
    let answer = walk
        .at_fault
        .as_ref()
        .map_or_else(|| format!("the run waits: {sentence}"), |fault| format!("the run waits for {fault}: {sentence}"));
    walk.done("waiting", answer)
}

fn nobody_answers(view: &View) -> Option<String> {
    (view.scope == Scope::Store)
        .then(|| "no node answers: see that its processes run; the same command again goes on from the newest checkpoint".to_owned())
}

fn overdue(run: &RunView) -> bool {
    let step: f64 = run.phases.values().filter(|s| s.is_finite()).sum();
    run.progress_age_ms >= OVERDUE_MS && run.progress_age_ms as f64 >= 5e3 * step
}

/// From the run on: silent ranks, ranks that others wait for, nodes and actors in trouble, quiet links.
fn follow(walk: &mut Walk<'_>) {
    let view = walk.view;
    let ranks: Vec<(&Item, &RankView)> = view.items.iter().filter_map(|item| as_rank(item)).collect();
    if let Some((item, rank)) = ranks.iter().find(|(item, rank)| item.state == "silent" || is_silent(view, &rank.node)) {
        return walk.blame_rank(item, rank, &format!("silent in step {}, lanes {}..{}", rank.step, rank.lanes.0, rank.lanes.1));
    }
    let silent = |item: &&Item| item.state == "silent" && matches!(item.properties, Properties::Node(_));
    if let Some(item) = view.items.iter().find(silent) {
        return walk.blame_node(&item.reference, None);
    }
    let place = |phase: &str| PHASES.iter().position(|known| *known == phase).unwrap_or(PHASES.len());
    let behind = ranks
        .iter()
        .filter(|(item, _)| item.state != "idle")
        .min_by_key(|(item, rank)| (rank.step, item.state == "waiting", place(&rank.phase), item.since_ms, rank.rank));
    let others =
        |slow: &RankView| ranks.iter().filter(|(item, rank)| item.state == "waiting" && rank.rank != slow.rank).collect::<Vec<_>>();
    if let Some((item, rank)) = behind {
        let waiting = others(rank);
        if item.state != "waiting" && !waiting.is_empty() {
            let mut in_phase: BTreeMap<&str, u64> = BTreeMap::new();
            waiting.iter().for_each(|(_, other)| *in_phase.entry(other.phase.as_str()).or_default() += 1);
            let told: Vec<String> = in_phase.iter().map(|(phase, number)| format!("{} in {phase}", count(*number, "rank"))).collect();
            walk.to(&waiting[0].0.reference, format!("waits, as do all others: {}", told.join(", ")));
            let since = ms(view.as_of_ms.saturating_sub(item.since_ms));
            return walk.blame_rank(item, rank, &format!("{} for {since}, step {}, phase {}", item.state, rank.step, rank.phase));
        }
    }
    if let Some((item, actor)) = walk.worst_actor(|_| true) {
        if let Some((rank_item, rank)) = ranks.iter().find(|(_, rank)| rank.node == actor.node) {
            walk.to(&rank_item.reference, format!("{} in {}", rank_item.state, rank.phase));
        }
        return walk.blame_actor(item, actor);
    }
    if let Some((item, link)) = walk.quietest(|_| true) {
        walk.blame_link(item, link);
    }
}

fn run(view: &View) -> Option<(&Item, &RunView)> {
    view.items.iter().find_map(|item| match &item.properties {
        Properties::Run(run) => Some((item, run)),
        _ => None,
    })
}

fn as_rank(item: &Item) -> Option<(&Item, &RankView)> {
    match &item.properties {
        Properties::Rank(rank) => Some((item, rank)),
        _ => None,
    }
}

fn is_silent(view: &View, node: &str) -> bool {
    view.item(node).is_some_and(|item| item.state == "silent")
}
