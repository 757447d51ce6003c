//! Lints of the run's pace.

use super::{Case, Seen, ms};
use crate::judge::why::{DATA_SHARE, slow_ranks};

const NO_PROGRESS_MS: u64 = 60_000;
const NO_PROGRESS_STEPS: f64 = 10.0;
const WAITS_MS: u64 = 300_000;

pub(super) fn no_progress(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let (item, run) = case.going()?;
    let step: f64 = run.phases.values().filter(|s| s.is_finite() && **s > 0.0).sum();
    let trains = item.state == "training" && run.waiting.is_none() && !run.paused;
    let overdue = run.progress_age_ms >= NO_PROGRESS_MS && run.progress_age_ms as f64 >= NO_PROGRESS_STEPS * step * 1e3;
    Ok(run_says(trains && overdue, || format!("no step was committed for {}", ms(run.progress_age_ms))))
}

pub(super) fn waits_long(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let (item, run) = case.going()?;
    let waits = (item.state == "waiting" || run.waiting.is_some()) && !run.paused && item.state != "paused";
    let because = run.waiting.as_deref().unwrap_or("nobody says why");
    Ok(run_says(waits && run.progress_age_ms >= WAITS_MS, || format!("no step for {}: {because}", ms(run.progress_age_ms))))
}

pub(super) fn paused(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let (item, run) = case.going()?;
    Ok(run_says(run.paused || item.state == "paused", || format!("paused after step {}, {} ago", run.step, ms(run.progress_age_ms))))
}

pub(super) fn loss(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let (_, run) = case.run()?;
    let loss = run.metrics.get(crate::report::names::LOSS).copied().ok_or("no loss is known yet")?;
    Ok(run_says(!loss.is_finite(), || format!("the loss of step {} is {loss}", run.step)))
}

pub(super) fn slow_rank(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    case.going()?;
    let slow = slow_ranks(case.view);
    if slow.is_empty() && !case.view.items.iter().any(|item| item.reference.starts_with("rank/")) {
        return Err("no rank tells how long it computes");
    }
    let host = |node: &str| match case.view.item(node).map(|item| &item.properties) {
        Some(everstep_actors::desk::view::Properties::Node(node)) => node.host.clone(),
        _ => "an unknown host".to_owned(),
    };
    let says =
        |node: &str, times: f64| format!("computes {times:.1} times as long for a lane as the median rank ({node} on {})", host(node));
    Ok(slow.iter().map(|(item, rank, times)| (item.reference.clone(), says(&rank.node, *times))).collect())
}

pub(super) fn slow_data(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let (_, run) = case.going()?;
    let total: f64 = run.phases.values().filter(|s| s.is_finite() && **s > 0.0).sum();
    if total <= 0.0 {
        return Err("no phases of steps are known");
    }
    let data = run.phases.get("data").copied().filter(|s| s.is_finite()).unwrap_or(0.0) / total;
    Ok(run_says(data >= DATA_SHARE, || format!("{:.0} % of a step is spent waiting for images", 100.0 * data)))
}

fn run_says(stands: bool, says: impl FnOnce() -> String) -> Vec<Seen> {
    if stands { vec![("run".to_owned(), says())] } else { Vec::new() }
}
