//! Lints of what happened.

use std::collections::BTreeMap;

use everstep_actors::event::Event;
use everstep_actors::protocol::ids::NodeId;

use super::{Case, Seen};
use crate::judge::layout::count;

const NO_EVENTS: &str = "no events are known";
const WINDOW_MS: u64 = 600_000;
const LOSSES: usize = 3;
const EPOCHS: usize = 6;
const SKIPPED: usize = 3;
const SKIPPED_OF: usize = 100;
const ODD_MS: u64 = 86_400_000;
/// What stores and systems say when no space is left.
const FULL: [&str; 5] = ["no space", "disk full", "quota", "enospc", "insufficient storage"];

pub(super) fn checkpoint_failing(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    Ok(failed_since(case)?
        .map(|(step, because, times)| (format!("checkpoint/{step}"), format!("{} failed in a row: {because}", count(times, "save"))))
        .into_iter()
        .collect())
}

pub(super) fn disk_full(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let full = |text: &str| FULL.iter().any(|words| text.to_lowercase().contains(words));
    let failed = failed_since(case)?.filter(|(_, because, _)| full(because)).map(|(_, because, _)| because);
    let waits = case.going().ok().and_then(|(_, run)| run.waiting.clone()).filter(|because| full(because));
    Ok(failed.or(waits).map(|because| ("run".to_owned(), because)).into_iter().collect())
}

/// The last checkpoint that failed, why, and how many in a row; nothing once one was saved.
fn failed_since(case: &Case<'_>) -> Result<Option<(u64, String, u64)>, &'static str> {
    let mut failed: Option<(u64, String, u64)> = None;
    for told in case.story.events() {
        match told.event() {
            Event::CheckpointSaved { .. } => failed = None,
            Event::CheckpointFailed { step, because } => {
                let times = failed.map_or(0, |(_, _, times)| times);
                failed = Some((step.0, because.clone(), times + 1));
            }
            _ => {}
        }
    }
    some(case)?;
    Ok(failed)
}

pub(super) fn flapping(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    some(case)?;
    let mut lost: BTreeMap<NodeId, usize> = BTreeMap::new();
    for told in case.story.events().filter(|told| told.at_ms() >= case.now_ms.saturating_sub(WINDOW_MS)) {
        if let Event::NodeLost { node, .. } = told.event() {
            *lost.entry(*node).or_default() += 1;
        }
    }
    let seen = lost.into_iter().filter(|(_, times)| *times >= LOSSES);
    Ok(seen.map(|(node, times)| (format!("node/{node}"), format!("was lost {times} times within 10 min"))).collect())
}

pub(super) fn epochs(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    some(case)?;
    let recent = case.story.events().filter(|told| told.at_ms() >= case.now_ms.saturating_sub(WINDOW_MS));
    let epochs = recent.filter(|told| matches!(told.event(), Event::EpochBegan { .. })).count();
    Ok(if epochs >= EPOCHS { vec![("run".to_owned(), format!("{epochs} epochs began within 10 min"))] } else { Vec::new() })
}

pub(super) fn skipped(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    some(case)?;
    let (mut steps, mut skipped, mut last) = (0, 0, "");
    for told in case.story.events().rev() {
        match told.event() {
            Event::StepCommitted { .. } => steps += 1,
            Event::StepSkipped { because, .. } => {
                skipped += 1;
                last = if last.is_empty() { because } else { last };
            }
            _ => {}
        }
        if steps > SKIPPED_OF {
            break;
        }
    }
    Ok(if skipped >= SKIPPED {
        vec![("run".to_owned(), format!("{skipped} of the last {SKIPPED_OF} steps changed no weights: {last}"))]
    } else {
        Vec::new()
    })
}

pub(super) fn odd(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    some(case)?;
    let mut odd: BTreeMap<NodeId, String> = BTreeMap::new();
    for told in case.story.events().filter(|told| told.at_ms() >= case.now_ms.saturating_sub(ODD_MS)) {
        match told.event() {
            Event::NodeOdd { node, because } => drop(odd.insert(*node, because.clone())),
            Event::StepAudited { step, odd: nodes, .. } => {
                odd.extend(nodes.iter().map(|node| (*node, format!("computed step {} wrongly", step.0))));
            }
            _ => {}
        }
    }
    Ok(odd.into_iter().map(|(node, because)| (format!("node/{node}"), because)).collect())
}

fn some(case: &Case<'_>) -> Result<(), &'static str> {
    if case.story.is_empty() { Err(NO_EVENTS) } else { Ok(()) }
}
