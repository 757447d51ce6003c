//! `everstep audit`: proves from what is durable, offline, that a run has one history and used every sample once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use everstep_actors::checkpoint;
use everstep_actors::protocol::ids::{Epoch, Lane, Step};
use everstep_actors::protocol::record::EpochRecord;
use everstep_actors::roles::ledger::{self, Line};
use everstep_actors::roles::{rank, records};
use everstep_actors::store::Store;
use serde::Serialize;

use super::output;
use crate::cli::{ExitCode, Failure, RunArgs};
use crate::data::Loader;
use crate::examine::Run;
use crate::setup;

/// Complaints that are shown at most.
const COMPLAINTS_MAX: usize = 20;

/// What an audit found.
#[derive(Debug, Serialize)]
struct Audit {
    /// Epochs that were ever begun.
    epochs: u64,
    /// Steps in the ledger, from 0 on.
    steps: u64,
    /// Steps that are in it in more than one epoch: they were computed anew.
    again: u64,
    /// Samples that the steps used.
    samples: u64,
    /// Passes over the data that are complete in the ledger, the last incomplete batch of each aside.
    passes: u64,
    /// Checkpoints that belong to this history.
    checkpoints: u64,
    /// What is wrong; empty for a sound run.
    complaints: Vec<String>,
}

/// Reads records, ledger and manifests, and draws the samples of every step anew.
///
/// # Errors
/// There is no run, it or its data cannot be read.
pub fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let run = Run::open(&args.run)?;
    let recipe = run.recipe();
    let cache = recipe.data.cache.clone().map(PathBuf::from);
    let source = setup::source(recipe.data.train.as_deref().unwrap_or_default(), cache.as_deref())?;
    let loader = setup::loader(recipe, source, Arc::new(|_| {}))?;
    let read = run.wait(async |store: &Store| {
        let checkpoints = checkpoint::list(store).await.map_err(Failure::from)?;
        Ok::<_, Failure>((records::all(store).await?, ledger::read(store).await?, checkpoints))
    });
    let (records, lines, checkpoints) = read?;
    let mut complaints = one_history(&records, &lines);
    let committed = committed(&lines);
    complaints.extend(samples_once(&committed, &loader, recipe.batch.lanes)?);
    let steps = committed.len() as u64;
    for listing in checkpoints.iter().filter(|listing| listing.step.0 > steps) {
        complaints.push(format!("the checkpoint of step {} lies beyond the ledger, which ends after {steps} steps", listing.step.0));
    }
    let per_pass = loader.steps_per_pass();
    let audit = Audit {
        epochs: records.len() as u64,
        steps,
        again: lines.len() as u64 - steps.min(lines.len() as u64),
        samples: committed.values().map(|line| u64::from(line.samples)).sum(),
        passes: steps / per_pass.max(1),
        checkpoints: checkpoints.len() as u64,
        complaints,
    };
    if args.json {
        output::print_json(&audit)?;
    } else {
        output::print(&text(&args.run, &audit, per_pass))?;
    }
    Ok(if audit.complaints.is_empty() { ExitCode::Done } else { ExitCode::Unhealthy })
}

fn text(run: &str, audit: &Audit, per_pass: u64) -> String {
    let mut lines = vec![
        format!(
            "{run}: {} epochs, {} steps in the ledger, {} of them computed anew, {} checkpoints",
            audit.epochs, audit.steps, audit.again, audit.checkpoints
        ),
        format!("{} samples used; {} passes of {per_pass} steps are complete", audit.samples, audit.passes),
    ];
    match audit.complaints.len() {
        0 => lines.push("sound: one history, and every sample of each pass was used once".into()),
        count => {
            lines.push(format!("{count} complaints:"));
            lines.extend(audit.complaints.iter().take(COMPLAINTS_MAX).map(|complaint| format!("  {complaint}")));
        }
    }
    lines.join("\n")
}

/// Epochs are numbered without gaps and each step was committed in one of them; epochs never go back from step to step.
fn one_history(records: &[EpochRecord], lines: &[Line]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (record, number) in records.iter().zip(1..) {
        if record.epoch != Epoch(number) {
            complaints.push(format!("epoch {number} has no record; the next one is {}", record.epoch.0));
            break;
        }
    }
    let known: BTreeSet<Epoch> = records.iter().map(|record| record.epoch).collect();
    for line in lines.iter().filter(|line| !known.contains(&line.epoch)) {
        complaints.push(format!("step {} was committed in epoch {}, which has no record", line.step.0, line.epoch.0));
    }
    for pair in lines.windows(2).filter(|pair| pair[0].step == pair[1].step) {
        if (pair[0].samples, pair[0].samples_hash) != (pair[1].samples, pair[1].samples_hash) {
            complaints
                .push(format!("step {} used other samples in epoch {} than in epoch {}", pair[0].step.0, pair[0].epoch.0, pair[1].epoch.0));
        }
    }
    let committed = committed(lines);
    for (expected, step) in committed.keys().enumerate() {
        if step.0 != expected as u64 {
            complaints.push(format!("step {expected} is missing in the ledger, which goes on with step {}", step.0));
            break;
        }
    }
    complaints
}

/// The line that counts for each step: that of the newest epoch.
fn committed(lines: &[Line]) -> BTreeMap<Step, Line> {
    lines.iter().map(|line| (line.step, *line)).collect()
}

/// Every step used the samples that its place in its pass says: those of a permutation, so each once.
fn samples_once(committed: &BTreeMap<Step, Line>, loader: &Loader, lanes: u32) -> Result<Vec<String>, Failure> {
    let mut complaints = Vec::new();
    let mut used: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for line in committed.values() {
        let drawn: Vec<Vec<(u64, u64)>> = (0..lanes).map(|lane| loader.drawn(line.step, Lane(lane))).collect();
        let hash = |ids: Vec<Vec<u64>>| rank::hash_of(&ids.iter().map(|ids| rank::hash_of(ids)).collect::<Vec<_>>());
        let intended = hash(drawn.iter().map(|drawn| drawn.iter().map(|(_, sample)| *sample).collect()).collect());
        // Where an image was replaced the ids are those of what was decoded: drawn anew as the loader does.
        let right = intended == line.samples_hash || {
            let decoded =
                (0..lanes).map(|lane| loader.crops(line.step, Lane(lane)).map(|(samples, _)| samples)).collect::<Result<Vec<_>, _>>();
            hash(decoded.map_err(|error| Failure::new(ExitCode::Failed, error))?) == line.samples_hash
        };
        let count: usize = drawn.iter().map(Vec::len).sum();
        if !right || count != line.samples as usize {
            complaints.push(format!("step {} used other samples than its place in the data says", line.step.0));
        }
        for (pass, sample) in drawn.into_iter().flatten() {
            if !used.entry(pass).or_default().insert(sample) {
                complaints.push(format!("sample {sample} was used twice in pass {pass}, the second time at step {}", line.step.0));
            }
        }
        // A pass that is complete needs no memory any more.
        if let Some(newest) = used.keys().next_back().copied() {
            used.retain(|pass, _| pass + 1 >= newest);
        }
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use everstep_actors::protocol::ids::NodeId;
    use everstep_actors::protocol::record::Claim;

    fn record(epoch: u64) -> EpochRecord {
        let leader = NodeId([1; 16]);
        EpochRecord {
            epoch: Epoch(epoch),
            nonce: String::new(),
            leader,
            claim: Claim::Leader,
            members: Vec::new(),
            others: Vec::new(),
            because: String::new(),
        }
    }
    fn line(step: u64, epoch: u64, samples_hash: u64) -> Line {
        Line { step: Step(step), epoch: Epoch(epoch), samples: 4, samples_hash }
    }

    #[test]
    fn broken_histories_are_named() {
        let sound = [line(0, 1, 7), line(1, 1, 8), line(1, 2, 8), line(2, 2, 9)];
        assert!(one_history(&[record(1), record(2)], &sound).is_empty());
        let table = [
            (vec![record(1), record(3)], sound.to_vec(), "epoch 2 has no record"),
            (vec![record(1)], sound.to_vec(), "committed in epoch 2, which has no record"),
            (vec![record(1), record(2)], vec![line(0, 1, 7), line(2, 1, 9)], "step 1 is missing"),
            (vec![record(1), record(2)], vec![line(0, 1, 7), line(0, 2, 8)], "other samples in epoch 1 than in epoch 2"),
        ];
        for (records, lines, expected) in table {
            let complaints = one_history(&records, &lines);
            assert!(complaints.iter().any(|complaint| complaint.contains(expected)), "{expected}: {complaints:?}");
        }
    }
}
