//! Events to lines: what is told while a run trains, as a pure function of the events.

use everstep_actors::event::{Event, Recorded};

use super::{bytes, duration, names, tame};

/// At least this many milliseconds lie between two plain lines about steps.
const PLAIN_EVERY_MS: u64 = 2000;

/// How progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A bar that is drawn over and over; a terminal.
    Bar,
    /// Lines; a pipe or a file.
    Plain,
    /// One JSON object per event on stdout.
    Json,
}

/// One thing to show.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A line of data, for stdout.
    Data(String),
    /// A line of talk, for stderr.
    Talk(String),
    /// The new state of the bar.
    Bar {
        /// Steps committed.
        position: u64,
        /// What stands beside it.
        message: String,
    },
}

/// What is known of a run so far.
#[derive(Debug, Clone)]
pub struct Progress {
    style: Style,
    total: u64,
    ln_k: f64,
    seconds_per_step: Option<f64>,
    images_per_second: f64,
    loss: Option<f64>,
    knn: Option<f64>,
    checkpoint: Option<u64>,
    last_plain_ms: Option<u64>,
}

impl Progress {
    /// Of a run of `total` steps whose model has `prototypes` prototypes.
    pub fn new(style: Style, total: u64, prototypes: u32) -> Self {
        Self {
            style,
            total,
            ln_k: f64::from(prototypes.max(1)).ln(),
            seconds_per_step: None,
            images_per_second: 0.0,
            loss: None,
            knn: None,
            checkpoint: None,
            last_plain_ms: None,
        }
    }

    /// What to show after one more event.
    pub fn on(&mut self, recorded: &Recorded) -> Vec<Line> {
        let step = self.take_in(&recorded.event);
        if self.style == Style::Json {
            return json(recorded).into_iter().map(Line::Data).collect();
        }
        let Some(committed) = step else {
            return sentence(&recorded.event).map(|text| Line::Talk(tame(&text))).into_iter().collect();
        };
        if self.style == Style::Bar {
            return vec![Line::Bar { position: committed, message: self.message(committed) }];
        }
        let due = self.last_plain_ms.is_none_or(|last| recorded.at_ms.saturating_sub(last) >= PLAIN_EVERY_MS);
        if !due && committed < self.total {
            return Vec::new();
        }
        self.last_plain_ms = Some(recorded.at_ms);
        vec![Line::Talk(format!("step {committed}/{}  {}", self.total, self.message(committed)))]
    }

    /// Remembers what the next lines need; the number of steps committed if the event is a step.
    fn take_in(&mut self, event: &Event) -> Option<u64> {
        match event {
            Event::StepCommitted { step, metrics, seconds, images, .. } => {
                if seconds.is_finite() && *seconds > 0.0 {
                    let smooth = self.seconds_per_step.map_or(*seconds, |before| 0.9 * before + 0.1 * seconds);
                    self.seconds_per_step = Some(smooth);
                    self.images_per_second = *images as f64 / smooth;
                }
                self.loss = metrics.get(names::LOSS).copied();
                return Some(step.0.saturating_add(1));
            }
            Event::Evaluated { scores, .. } => self.knn = scores.get(names::KNN).copied().or(self.knn),
            Event::CheckpointSaved { step, .. } => self.checkpoint = Some(step.0),
            // What was measured before the break says nothing about the new members' pace.
            Event::EpochBegan { .. } => self.seconds_per_step = None,
            _ => {}
        }
        None
    }

    fn message(&self, committed: u64) -> String {
        let mut parts = Vec::new();
        parts.extend(self.loss.map(|loss| format!("loss {loss:.3} ({:+.3} to ln K)", loss - self.ln_k)));
        parts.push(format!("{:.0} img/s", self.images_per_second));
        parts.extend(self.knn.map(|knn| format!("kNN {knn:.1} %")));
        parts.extend(self.checkpoint.map(|step| format!("saved {step}")));
        let left = self.total.saturating_sub(committed) as f64;
        parts.extend(self.seconds_per_step.filter(|_| left > 0.0).map(|seconds| format!("{} left", duration(left * seconds))));
        parts.join("  ")
    }
}

/// One object: the event's own fields, `at_ms` and `recorded_by` (an event's `node` is the one that it is about).
fn json(recorded: &Recorded) -> Option<String> {
    let mut value = serde_json::to_value(&recorded.event).ok()?;
    let object = value.as_object_mut()?;
    object.insert("at_ms".into(), recorded.at_ms.into());
    object.insert("recorded_by".into(), serde_json::to_value(recorded.recorded_by).ok()?);
    Some(value.to_string())
}

/// An event other than a step, told in one line.
fn sentence(event: &Event) -> Option<String> {
    Some(match event {
        Event::StepCommitted { .. } => return None,
        Event::Waiting { because } => because.clone(),
        Event::EpochBegan { epoch, step, members, because, state_from, .. } => {
            let lanes = members.iter().map(|member| format!("{}..{}", member.lanes.0, member.lanes.1)).collect::<Vec<_>>().join(" ");
            let ranks = if members.len() == 1 { "1 rank".into() } else { format!("{} ranks", members.len()) };
            format!("epoch {} at step {} with {ranks} (lanes {lanes}), state from {state_from}: {because}", epoch.0, step.0)
        }
        Event::CheckpointSaved { step, bytes: size, seconds, stall_ms } => {
            format!("checkpoint of step {} saved: {} in {}, ranks held up {stall_ms:.1} ms", step.0, bytes(*size), duration(*seconds))
        }
        Event::CheckpointFailed { step, because } => format!("checkpoint of step {} failed, training goes on: {because}", step.0),
        Event::Evaluated { step, scores } => {
            let scores = scores.iter().map(|(name, score)| format!("{} {score:.1} %", name.replace('_', " "))).collect::<Vec<_>>();
            format!("evaluated after step {}: {}", step.0, scores.join(", "))
        }
        Event::SampleReplaced { place, because, sample } => format!("image {sample} ({place}) is replaced: {because}"),
        Event::NodeLost { node, rank: Some(rank), because, .. } => format!("rank {rank} ({node}) is lost: {because}"),
        Event::NodeLost { node, rank: None, because, .. } => format!("{node} is lost: {because}"),
        Event::CopiesDiffered { epoch, shards } => {
            let shards: Vec<&str> = shards.iter().map(|(shard, _)| shard.as_str()).collect();
            format!("copies of shards {} differed in epoch {}: the step is computed again", shards.join(", "), epoch.0)
        }
        Event::StepAudited { step, computations, odd } if odd.is_empty() => {
            format!("step {} was computed {computations} times, each lane by another node: the same bits", step.0)
        }
        Event::StepAudited { step, computations, odd } => {
            let odd = odd.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("step {} was computed {computations} times until two agreed; {odd} had computed it wrongly", step.0)
        }
        Event::StepSkipped { step, because } => format!("step {} changed no weights: {because}", step.0),
        Event::StandsBy { node } => format!("{node} stands by: as many ranks compute as `cluster.ranks_max` allows"),
        Event::Ordered { .. } => event.sentence(),
        Event::Hung { node, because } => format!("{node} hangs: {because}"),
        Event::NodeOdd { node, because } => format!("{node} is the odd one: {because}"),
        Event::Ended { step, outcome, because } => format!("{outcome} after step {}: {because}", step.0),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use everstep_actors::event::MemberInfo;
    use everstep_actors::protocol::ids::{Epoch, NodeId, Step};

    use super::*;

    pub(crate) fn at(at_ms: u64, event: Event) -> Recorded {
        Recorded { at_ms, recorded_by: NodeId([7; 16]), event }
    }

    pub(crate) fn step(step: u64, at_ms: u64, loss: f64) -> Recorded {
        let metrics = BTreeMap::from([(names::LOSS.into(), loss), (names::ENTROPY.into(), 4.5)]);
        at(
            at_ms,
            Event::StepCommitted {
                step: Step(step),
                epoch: Epoch(1),
                metrics,
                seconds: 0.5,
                images: 128,
                wait: 0.1,
                samples: 128,
                samples_hash: 0,
                phases: BTreeMap::new(),
            },
        )
    }

    pub(crate) fn evaluated(step: u64, scores: &[(&str, f64)]) -> Recorded {
        let scores = scores.iter().map(|(name, score)| ((*name).into(), *score)).collect();
        at(0, Event::Evaluated { step: Step(step), scores })
    }

    pub(crate) fn saved(step: u64) -> Recorded {
        at(0, Event::CheckpointSaved { step: Step(step), bytes: 1_300_000, seconds: 0.2, stall_ms: 0.4 })
    }

    pub(crate) fn lost(because: &str) -> Recorded {
        at(0, Event::NodeLost { node: NodeId([9; 16]), rank: Some(1), because: because.into(), fault: None })
    }

    pub(crate) fn began(epoch: u64, step: u64) -> Recorded {
        let member = |rank| MemberInfo { node: NodeId([rank as u8; 16]), rank, host: "a".into(), pid: 1, lanes: (2 * rank, 2 * rank + 2) };
        at(
            0,
            Event::EpochBegan {
                epoch: Epoch(epoch),
                step: Step(step),
                leader: NodeId([0; 16]),
                members: vec![member(0), member(1)],
                because: "the run starts".into(),
                state_from: "seed".into(),
                state_epoch: Epoch(0),
                copies: Vec::new(),
                moved_bytes: 0,
            },
        )
    }

    #[test]
    fn a_bar_tells_loss_pace_knn_checkpoint_and_time_left() {
        let mut progress = Progress::new(Style::Bar, 100, 100);
        progress.on(&evaluated(0, &[(names::KNN, 31.25)]));
        progress.on(&saved(1));
        let lines = progress.on(&step(9, 1000, 4.105));
        let message = "loss 4.105 (-0.500 to ln K)  256 img/s  kNN 31.2 %  saved 1  45 s left".to_owned();
        assert_eq!(lines, [Line::Bar { position: 10, message }]);
    }

    #[test]
    fn plain_lines_come_at_most_every_two_seconds_and_at_the_end() {
        let mut progress = Progress::new(Style::Plain, 12, 100);
        let told: Vec<bool> = (0..12).map(|s| !progress.on(&step(s, s * 500, 4.0)).is_empty()).collect();
        let expected = [true, false, false, false, true, false, false, false, true, false, false, true];
        assert_eq!(told, expected);
        assert_eq!(progress.on(&lost("its process ended")), [Line::Talk("rank 1 (n09090909) is lost: its process ended".into())]);
    }

    #[test]
    fn json_is_one_object_a_line_and_reads_back() {
        let mut progress = Progress::new(Style::Json, 12, 100);
        for recorded in [step(0, 1, 4.0), step(1, 2, 4.0), lost("two\nlines"), began(1, 0)] {
            let [Line::Data(text)] = &progress.on(&recorded)[..] else { panic!("one line of data") };
            assert!(!text.contains('\n'));
            assert_eq!(serde_json::from_str::<Event>(text).unwrap(), recorded.event);
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!((value["at_ms"].as_u64(), value["recorded_by"].as_str()), (Some(recorded.at_ms), Some("07".repeat(16).as_str())));
        }
    }

    #[test]
    fn events_are_one_tame_line_each() {
        let mut progress = Progress::new(Style::Plain, 12, 100);
        let mut told = |recorded: Recorded| match &progress.on(&recorded)[..] {
            [Line::Talk(text)] => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(began(2, 17)), "epoch 2 at step 17 with 2 ranks (lanes 0..2 2..4), state from seed: the run starts");
        assert_eq!(told(saved(40)), "checkpoint of step 40 saved: 1.3 MB in 0.2 s, ranks held up 0.4 ms");
        assert_eq!(told(lost("a\n\x1b[2Jb")), "rank 1 (n09090909) is lost: a  [2Jb");
        assert_eq!(
            told(evaluated(5, &[(names::KNN, 30.0), (names::KNN_PIXELS, 20.0)])),
            "evaluated after step 5: knn 30.0 %, knn raw pixels 20.0 %"
        );
        assert_eq!(told(at(0, Event::Waiting { because: "waiting for a leader".into() })), "waiting for a leader");
    }
}
