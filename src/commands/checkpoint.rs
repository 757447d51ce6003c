//! `everstep checkpoint`: which checkpoints a run has, and whether they read back.

use std::fmt::Write as _;

use everstep_actors::checkpoint::{self, CheckpointError, Condition, Listing, PassedOver};
use everstep_actors::desk::order::Order;
use everstep_actors::store::Store;
use serde::Serialize;

use super::output::{print, print_json};
use crate::cli::{CheckpointCommand, ExitCode, Failure, RunArgs};
use crate::examine::Run;
use crate::report::{bytes, tame};

/// All that is told of a run's checkpoints.
#[derive(Debug, Serialize)]
struct Report {
    run: String,
    /// Whether every byte was read and compared, or only manifests and lengths.
    verified: bool,
    checkpoints: Vec<Row>,
}

/// One checkpoint.
#[derive(Debug, Serialize)]
struct Row {
    step: u64,
    bytes: u64,
    /// State digest, as far as the manifest can be read.
    state: Option<String>,
    condition: &'static str,
    /// What is wrong: each damaged manifest or part.
    problems: Vec<String>,
}

const COMPLETE: &str = "complete";
const INTACT: &str = "intact";
const DAMAGED: &str = "damaged";
const SET_ASIDE: &str = "set aside";
const NEWER: &str = "newer format";

impl From<Listing> for Row {
    fn from(listing: Listing) -> Self {
        let (condition, problem) = match listing.condition {
            Condition::Intact => (COMPLETE, None),
            Condition::Damaged(damage) => (DAMAGED, Some(damage.to_string())),
            Condition::SetAside(damage) => (SET_ASIDE, Some(damage.to_string())),
            Condition::NewerFormat(format) => (NEWER, Some(format!("it has format {format}; use the newer everstep that wrote it"))),
        };
        let state = listing.state.map(|state| state.to_string());
        Self { step: listing.step.0, bytes: listing.bytes, state, condition, problems: problem.into_iter().collect() }
    }
}

/// Lists or verifies, and prints.
///
/// # Errors
/// [`ExitCode::Unhealthy`] when a verified checkpoint is damaged (names the part) or cannot be judged; else as [`Run::open`].
pub fn run(command: &CheckpointCommand) -> Result<ExitCode, Failure> {
    let (args, verified) = match command {
        CheckpointCommand::Now(args) => return super::wait_for(super::orders::to_leader(args, &Order::CheckpointNow)),
        CheckpointCommand::Ls(args) => (args, false),
        CheckpointCommand::Verify(args) => (args, true),
    };
    let run = Run::open(&args.run)?;
    let checkpoints = run.wait(async |store| if verified { verify(store).await } else { list(store).await })?;
    let report = Report { run: run.place().to_owned(), verified, checkpoints };
    show(&report, args)?;
    if verified {
        judge(&report)?;
    }
    Ok(ExitCode::Done)
}

async fn list(store: &Store) -> Result<Vec<Row>, CheckpointError> {
    Ok(checkpoint::list(store).await?.into_iter().map(Row::from).collect())
}

async fn verify(store: &Store) -> Result<Vec<Row>, CheckpointError> {
    let mut rows = Vec::new();
    for listing in checkpoint::list(store).await? {
        let step = listing.step;
        let mut row = Row::from(listing);
        if row.condition == COMPLETE {
            // A checkpoint of a run that trains may be deleted meanwhile, its manifest first.
            let gone = |result| match result {
                Err(CheckpointError::Absent { .. }) => Ok(None),
                other => other.map(Some),
            };
            let Some(manifest) = gone(checkpoint::load(store, step).await)? else { continue };
            let damaged = checkpoint::verify(store, &manifest).await?;
            if !damaged.is_empty() && gone(checkpoint::load(store, step).await)?.is_none() {
                continue;
            }
            row.condition = if damaged.is_empty() { INTACT } else { DAMAGED };
            row.problems = damaged.into_iter().map(|(_, PassedOver { place, damage, .. })| format!("{place}: {damage}")).collect();
        }
        rows.push(row);
    }
    Ok(rows)
}

fn show(report: &Report, args: &RunArgs) -> Result<(), Failure> {
    if args.json {
        return print_json(report);
    }
    if report.checkpoints.is_empty() {
        return print(&format!("{} has no checkpoint yet", report.run));
    }
    let mut text = format!("{:>10}  {:>9}  {:16}  CONDITION\n", "STEP", "SIZE", "STATE");
    for row in &report.checkpoints {
        let state: String = row.state.iter().flat_map(|state| state.chars().take(16)).collect();
        let _ = write!(text, "{:>10}  {:>9}  {state:16}  {}", row.step, bytes(row.bytes), row.condition);
        let _ = match row.problems.first() {
            Some(problem) => writeln!(text, ": {}", tame(problem)),
            None => writeln!(text),
        };
        for problem in row.problems.iter().skip(1) {
            let _ = writeln!(text, "{:43}  {}", "", tame(problem));
        }
    }
    print(&text)
}

/// A checkpoint that was set aside earlier is known, and no failure.
fn judge(report: &Report) -> Result<(), Failure> {
    let bad: Vec<&Row> = report.checkpoints.iter().filter(|row| [DAMAGED, NEWER].contains(&row.condition)).collect();
    let Some(first) = bad.last() else { return Ok(()) };
    let newest = report.checkpoints.iter().rev().find(|row| row.condition == INTACT);
    let remedy = newest.map_or_else(
        || "no intact one is left, so begin the run anew at another location".into(),
        |row| format!("use that of step {}, from which training resumes too", row.step),
    );
    let (count, all, run) = (bad.len(), report.checkpoints.len(), &report.run);
    let problem = first.problems.first().map_or("", String::as_str);
    let what = format!(
        "{count} of {all} checkpoints of {run} cannot be used, the newest of them that of step {}: {problem}; {remedy}",
        first.step
    );
    Err(Failure::new(ExitCode::Unhealthy, what))
}
