//! Events in words, for tables, pages and logs: a name, a severity, one sentence.

use super::Event;
use crate::protocol::ids::{Epoch, Step};

/// How much an event matters to who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The run does what it should.
    Info,
    /// Something was lost, replaced or put off, and the run goes on.
    Warning,
    /// Somebody has to look.
    Error,
}

impl Severity {
    /// `info`, `warning` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Event {
    /// Its name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::EpochBegan { .. } => "epoch_began",
            Self::StepCommitted { .. } => "step_committed",
            Self::Ordered { .. } => "ordered",
            Self::CopiesDiffered { .. } => "copies_differed",
            Self::NodeOdd { .. } => "node_odd",
            Self::StepAudited { .. } => "step_audited",
            Self::StepSkipped { .. } => "step_skipped",
            Self::StandsBy { .. } => "stands_by",
            Self::Hung { .. } => "hung",
            Self::CheckpointSaved { .. } => "checkpoint_saved",
            Self::CheckpointFailed { .. } => "checkpoint_failed",
            Self::Evaluated { .. } => "evaluated",
            Self::SampleReplaced { .. } => "sample_replaced",
            Self::NodeLost { .. } => "node_lost",
            Self::Ended { .. } => "ended",
        }
    }

    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match self {
            Self::StepAudited { odd, .. } if !odd.is_empty() => Severity::Warning,
            Self::Ended { outcome, .. } if outcome == "failed" || outcome == "unusable" => Severity::Error,
            Self::CopiesDiffered { .. } | Self::NodeOdd { .. } => Severity::Error,
            Self::StepSkipped { .. }
            | Self::Hung { .. }
            | Self::CheckpointFailed { .. }
            | Self::SampleReplaced { .. }
            | Self::NodeLost { .. } => Severity::Warning,
            Self::Waiting { .. }
            | Self::EpochBegan { .. }
            | Self::StepCommitted { .. }
            | Self::Ordered { .. }
            | Self::StepAudited { .. }
            | Self::StandsBy { .. }
            | Self::CheckpointSaved { .. }
            | Self::Evaluated { .. }
            | Self::Ended { .. } => Severity::Info,
        }
    }

    /// Its epoch, where it has one.
    pub fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::EpochBegan { epoch, .. } | Self::StepCommitted { epoch, .. } | Self::CopiesDiffered { epoch, .. } => Some(*epoch),
            _ => None,
        }
    }

    /// Its step, where it has one.
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::EpochBegan { step, .. }
            | Self::StepCommitted { step, .. }
            | Self::StepAudited { step, .. }
            | Self::StepSkipped { step, .. }
            | Self::CheckpointSaved { step, .. }
            | Self::CheckpointFailed { step, .. }
            | Self::Evaluated { step, .. }
            | Self::Ended { step, .. } => Some(*step),
            _ => None,
        }
    }

    /// One sentence without a full stop.
    pub fn sentence(&self) -> String {
        match self {
            Self::Waiting { because } => because.clone(),
            Self::EpochBegan { epoch, step, leader, members, because, state_from, moved_bytes, .. } => {
                let ranks = members.len();
                format!(
                    "epoch {} began at step {} with {ranks} ranks, led by {leader}: {because}; state from {state_from}, {moved_bytes} bytes moved",
                    epoch.0, step.0
                )
            }
            Self::StepCommitted { step, metrics, seconds, images, .. } => {
                let loss = metrics.get("loss").map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
                format!("step {} committed, {images} images in {seconds:.3} s{loss}", step.0)
            }
            Self::Ordered { by, node, order, answer } => format!("{by} ordered `{order}` of {node}: {answer}"),
            Self::CopiesDiffered { shards, .. } => {
                let names: Vec<&str> = shards.iter().map(|(shard, _)| shard.as_str()).collect();
                format!("copies of {} differed; the step is computed again", names.join(", "))
            }
            Self::NodeOdd { node, because } => format!("{node} was the odd one: {because}"),
            Self::StepAudited { step, computations, odd } if odd.is_empty() => {
                format!("step {} was computed {computations} times with one result", step.0)
            }
            Self::StepAudited { step, computations, odd } => {
                let odd: Vec<String> = odd.iter().map(ToString::to_string).collect();
                format!("step {} was computed {computations} times; wrong was {}", step.0, odd.join(", "))
            }
            Self::StepSkipped { step, because } => format!("step {} changed no weights: {because}", step.0),
            Self::StandsBy { node } => format!("{node} stands by: as many ranks compute as may"),
            Self::Hung { node, because } => format!("{node} hangs: {because}"),
            Self::CheckpointSaved { step, bytes, seconds, stall_ms } => {
                format!("checkpoint of step {} saved: {bytes} bytes in {seconds:.2} s, ranks held up for {stall_ms:.1} ms", step.0)
            }
            Self::CheckpointFailed { step, because } => format!("checkpoint of step {} failed: {because}", step.0),
            Self::Evaluated { step, scores } => {
                let scores: Vec<String> = scores.iter().map(|(name, score)| format!("{name} {score:.1} %")).collect();
                format!("trunk of step {} examined: {}", step.0, scores.join(", "))
            }
            Self::SampleReplaced { sample, place, because } => format!("sample {sample} ({place}) is replaced by another: {because}"),
            Self::NodeLost { node, rank, because, .. } => {
                let rank = rank.map(|rank| format!(" (rank {rank})")).unwrap_or_default();
                format!("{node}{rank} was lost: {because}")
            }
            Self::Ended { step, outcome, because } => format!("ended after {} steps, {outcome}: {because}", step.0),
        }
    }
}
