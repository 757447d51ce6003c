//! What a run's store still tells when nobody answers: its newest record, its log, its checkpoints.

use std::collections::BTreeMap;

use everstep_actors::checkpoint;
use everstep_actors::clock::wall_ms;
use everstep_actors::desk::answer::select;
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::{Item, NodeView, Properties, RankView, RunView, SCHEMA_VERSION, Scope, View};
use everstep_actors::event::{Event, Recorded};
use everstep_actors::protocol::record::EpochRecord;
use everstep_actors::roles::desk::Story;
use everstep_actors::roles::log;
use everstep_actors::roles::node::look::checkpoint_item;
use everstep_actors::store::Store;

use crate::cli::Failure;

/// A recipe is some kilobytes.
const RECIPE_BYTES_MAX: u64 = 1 << 20;

/// The run as its store remembers it. `because` says why nobody answers; `None` where the run was ended in good order.
///
/// # Errors
/// The store cannot be read.
pub(super) async fn view(
    run: &str,
    store: &Store,
    record: &EpochRecord,
    because: Option<String>,
    question: &Question,
) -> Result<View, Failure> {
    let events = log::read(store).await?;
    let story = Story::of(&events);
    let listings = checkpoint::list(store).await?;
    let now = wall_ms();
    let told_ms = events.last().map_or(0, |recorded| recorded.at_ms);
    let saved = listings.iter().rev().find(|listing| listing.condition == checkpoint::Condition::Intact);
    let state = if because.is_some() { "silent" } else { "ended" };
    let waiting = match &because {
        Some(because) => format!("no answer: {because}"),
        None => match events.iter().rev().find_map(|recorded| ending(&recorded.event)) {
            Some((outcome, because)) if outcome != "done" && outcome != "stopped" => format!("nothing runs: {because}"),
            _ => "nothing runs: the last session ended in good order".to_owned(),
        },
    };
    let item = |reference: String, parent: &str, since_ms: u64, properties: Properties| Item {
        reference,
        parent: parent.to_owned(),
        children: Vec::new(),
        state: state.to_owned(),
        since_ms,
        as_of_ms: told_ms,
        properties,
    };
    let reference = |node| format!("node/{node}");
    let step = story.step.0.max(saved.map_or(0, |listing| listing.step.0));
    let mut items = vec![item(
        "run".into(),
        "",
        told_ms,
        Properties::Run(RunView {
            name: run.to_owned(),
            step,
            steps: steps(store).await.unwrap_or_else(|| ended_at(&events).unwrap_or_default()),
            epoch: record.epoch.0,
            epoch_because: record.because.clone(),
            epoch_since_ms: story.epoch_since_ms,
            leader: reference(record.leader),
            waiting: Some(waiting),
            progress_age_ms: now
                .saturating_sub(story.step_since_ms.max(story.epoch_since_ms).max(listings.last().map_or(0, |l| l.published_ms))),
            metrics: story.metrics.clone(),
            phases: story.phases.clone(),
            ranks: record.members.len() as u32,
            lanes: story.members.iter().map(|member| member.lanes.1).max().unwrap_or(0),
            checkpoint: saved.map(|listing| listing.step.0),
            ledger: ledger(store).await.unwrap_or(story.step.0),
            moved_bytes: story.moved_bytes,
            samples: story.samples,
            step_seconds: BTreeMap::new(),
            ..RunView::default()
        }),
    )];
    let lanes: BTreeMap<_, _> = story.members.iter().map(|member| (member.node, member.lanes)).collect();
    for (rank, member) in record.members.iter().enumerate() {
        let rank = rank as u32;
        let node = NodeView {
            id: member.node.0.iter().map(|byte| format!("{byte:02x}")).collect(),
            host: member.host.clone(),
            zone: member.zone.clone(),
            address: member.address.clone(),
            pid: member.pid,
            rank: Some(rank),
            leads: member.node == record.leader,
            ..NodeView::default()
        };
        let mut node = item(reference(member.node), "run", told_ms, Properties::Node(node));
        node.children.push(format!("rank/{rank}"));
        items.push(node);
        let lanes = lanes.get(&member.node).copied().unwrap_or_default();
        let view = RankView { rank, node: reference(member.node), step, lanes, phase: "unknown".into(), ..RankView::default() };
        items.push(item(format!("rank/{rank}"), "run", told_ms, Properties::Rank(view)));
    }
    items.extend(listings.iter().map(|listing| checkpoint_item(listing, store, story.checkpoints.get(&listing.step), now)));
    items.extend(story.events.iter().map(Item::of_event));
    let children = items[1..].iter().filter(|item| item.parent == "run").map(|item| item.reference.clone()).collect();
    items[0].children = children;
    let (items, matched) = select(items, question);
    let missing = because.map(|because| vec![format!("nobody answers: {because}; this is what the store remembers")]);
    let missing = missing.unwrap_or_default();
    Ok(View { schema_version: SCHEMA_VERSION, answered_by: String::new(), scope: Scope::Store, as_of_ms: told_ms, missing, matched, items })
}

/// The steps of the run, where its recipe counts in steps.
async fn steps(store: &Store) -> Option<u64> {
    let text = store.get("recipe.toml", RECIPE_BYTES_MAX).await.ok()?;
    let recipe = crate::config::Recipe::from_text("recipe.toml", &String::from_utf8_lossy(&text), &[]).ok()?;
    recipe.run.steps
}

fn ending(event: &Event) -> Option<(&str, &str)> {
    match event {
        Event::Ended { outcome, because, .. } => Some((outcome, because)),
        _ => None,
    }
}

/// Steps whose ledger lines are durable, by the names of the ledger's objects.
async fn ledger(store: &Store) -> Option<u64> {
    let entries = store.list("ledger").await.ok()?;
    let last = |key: &str| key.strip_prefix("ledger/")?.split('-').nth(1)?.parse::<u64>().ok();
    entries.iter().filter_map(|entry| last(&entry.key)).max().map(|step| step + 1)
}

/// The steps of a run that was trained to its end.
fn ended_at(events: &[Recorded]) -> Option<u64> {
    events.iter().rev().find_map(|recorded| match &recorded.event {
        Event::Ended { step, outcome, .. } if outcome == "done" => Some(step.0),
        _ => None,
    })
}
