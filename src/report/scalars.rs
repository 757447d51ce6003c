//! The numbers of a run as curves, from its events: what TensorBoard's file, the page and whoever draws them share.

use everstep_actors::event::{Event, Recorded};

/// One number of a curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Steps committed.
    pub step: u64,
    /// Its curve: `train/loss`, `phase/compute`, `eval/knn`, ….
    pub tag: String,
    /// The number.
    pub value: f64,
}

/// The scalars of a run, oldest first, of those curves (`train`, `loss`) that are wanted: of a long run there are millions. A step that
/// was done again after a loss counts as it was done last.
pub fn scalars(events: &[Recorded], wanted: impl Fn(&str, &str) -> bool) -> Vec<Scalar> {
    let mut scalars: Vec<Scalar> = Vec::new();
    let mut newest: Option<u64> = None;
    for Recorded { at_ms, event, .. } in events {
        if let Event::StepCommitted { step, .. } = event
            && newest.replace(step.0).is_some_and(|newest| newest >= step.0)
        {
            scalars.retain(|scalar| scalar.step < step.0 || !of_steps(&scalar.tag));
        }
        let mut add = |step: u64, group: &str, name: &str, value: f64| {
            if wanted(group, name) {
                scalars.push(Scalar { at_ms: *at_ms, step, tag: format!("{group}/{name}"), value });
            }
        };
        match event {
            Event::StepCommitted { step, metrics, seconds, images, phases, .. } => {
                let step = step.0;
                metrics.iter().for_each(|(name, value)| add(step, "train", name, *value));
                add(step, "train", "seconds", *seconds);
                if *seconds > 0.0 {
                    add(step, "train", "images_per_s", *images as f64 / seconds);
                }
                phases.iter().for_each(|(name, value)| add(step, "phase", name, *value));
            }
            Event::Evaluated { step, scores } => scores.iter().for_each(|(name, score)| add(step.0, "eval", name, *score)),
            Event::EpochBegan { step, members, moved_bytes, .. } => {
                add(step.0, "run", "members", members.len() as f64);
                add(step.0, "run", "moved_bytes", *moved_bytes as f64);
            }
            Event::CheckpointSaved { step, bytes, seconds, stall_ms } => {
                add(step.0, "checkpoint", "bytes", *bytes as f64);
                add(step.0, "checkpoint", "seconds", *seconds);
                add(step.0, "checkpoint", "stall_ms", *stall_ms);
            }
            _ => {}
        }
    }
    scalars
}

/// Whether a curve is one of steps: those are done again, and what happened between them is not.
fn of_steps(tag: &str) -> bool {
    tag.starts_with("train/") || tag.starts_with("phase/")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use everstep_actors::protocol::ids::{Epoch, NodeId, Step};

    use super::*;

    fn at(at_ms: u64, event: Event) -> Recorded {
        Recorded { at_ms, recorded_by: NodeId([1; 16]), event }
    }

    fn step(number: u64, loss: f64) -> Event {
        Event::StepCommitted {
            step: Step(number),
            epoch: Epoch(1),
            metrics: BTreeMap::from([("loss".to_owned(), loss)]),
            seconds: 2.0,
            images: 64,
            wait: 0.0,
            samples: 64,
            samples_hash: 0,
            phases: BTreeMap::new(),
        }
    }

    fn losses(events: &[Recorded]) -> Vec<(u64, f64)> {
        let only = |group: &str, name: &str| group == "train" && name == "loss";
        scalars(events, only).into_iter().map(|scalar| (scalar.step, scalar.value)).collect()
    }

    #[test]
    fn a_step_that_was_done_again_counts_once() {
        let events = [at(1, step(1, 5.0)), at(2, step(2, 4.0)), at(3, step(3, 3.0)), at(9, step(2, 4.5)), at(10, step(3, 3.5))];
        assert_eq!(losses(&events), [(1, 5.0), (2, 4.5), (3, 3.5)]);
    }

    #[test]
    fn an_examination_later_than_its_step_drops_no_steps() {
        let score = Event::Evaluated { step: Step(9), scores: BTreeMap::from([("knn".to_owned(), 50.0)]) };
        let events = [at(1, step(1, 5.0)), at(2, score), at(3, step(2, 4.0))];
        assert_eq!(losses(&events), [(1, 5.0), (2, 4.0)]);
        assert!(scalars(&events, |_, _| true).iter().any(|scalar| scalar.tag == "eval/knn"));
    }
}
