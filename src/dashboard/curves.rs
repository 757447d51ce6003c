//! Curves and incidents from the durable events, with so few points that a page draws them at once however long the run.

use everstep_actors::event::{Event, Recorded};
use serde::Serialize;

use crate::report::names;
use crate::report::scalars::scalars;

/// Points of a curve at most.
const POINTS: usize = 400;

/// Incidents at most, the newest.
const INCIDENTS: usize = 200;

/// Sentences of an incident at most.
const SENTENCES: usize = 12;

/// What the page draws.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Curves {
    /// Loss of steps.
    loss: Vec<Point>,
    /// kNN scores, percent.
    knn: Vec<Point>,
    /// Images a second.
    images_per_s: Vec<Point>,
    /// Members, changed where epochs began.
    members: Vec<Point>,
    /// When checkpoints were complete, and their steps.
    checkpoints: Vec<Point>,
    /// What held the run up, oldest first.
    incidents: Vec<Incident>,
    /// Incidents before those.
    earlier: usize,
}

/// Milliseconds since the Unix epoch, steps committed, value.
type Point = (u64, u64, f64);

/// Something that kept the run from the next step.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Incident {
    /// When it was noticed.
    from_ms: u64,
    /// When the next step was committed or the run ended; absent while it lasts.
    to_ms: Option<u64>,
    /// The last step before it.
    step: u64,
    /// Nodes that were lost.
    lost: u32,
    /// What was recorded of it, one sentence each.
    what: Vec<String>,
}

/// From the events of a run, oldest first.
pub(super) fn of(events: &[Recorded]) -> Curves {
    let mut curves = drawn(events);
    let mut step = 0;
    let mut open: Option<Incident> = None;
    for Recorded { at_ms, event, .. } in events {
        let at_ms = *at_ms;
        match event {
            Event::StepCommitted { step: committed, .. } => {
                step = committed.0;
                curves.incidents.extend(open.take().map(|incident| Incident { to_ms: Some(at_ms), ..incident }));
            }
            Event::EpochBegan { .. } => add(open.as_mut(), event),
            Event::Ended { .. } => {
                add(open.as_mut(), event);
                curves.incidents.extend(open.take().map(|incident| Incident { to_ms: Some(at_ms), ..incident }));
            }
            Event::NodeLost { .. } | Event::Hung { .. } | Event::CopiesDiffered { .. } => {
                let incident = open.get_or_insert_with(|| Incident { from_ms: at_ms, to_ms: None, step, lost: 0, what: Vec::new() });
                incident.lost += u32::from(matches!(event, Event::NodeLost { .. }));
                add(Some(incident), event);
            }
            // Before the first step a run waits for its members: that is no incident.
            Event::Waiting { .. } if step > 0 => {
                let incident = open.get_or_insert_with(|| Incident { from_ms: at_ms, to_ms: None, step, lost: 0, what: Vec::new() });
                add(Some(incident), event);
            }
            _ => {}
        }
    }
    curves.incidents.extend(open);
    curves.earlier = curves.incidents.len().saturating_sub(INCIDENTS);
    curves.incidents.drain(..curves.earlier);
    curves
}

/// The curves alone: of steps means, of what is seldom the newest.
fn drawn(events: &[Recorded]) -> Curves {
    let mut curves = Curves::default();
    let wanted = [("train", names::LOSS), ("train", "images_per_s"), ("eval", names::KNN), ("run", "members"), ("checkpoint", "bytes")];
    for scalar in scalars(events, |group, name| wanted.contains(&(group, name))) {
        let curve = match scalar.tag.split('/').next() {
            Some("eval") => &mut curves.knn,
            Some("run") => &mut curves.members,
            Some("checkpoint") => &mut curves.checkpoints,
            _ if scalar.tag.ends_with(names::LOSS) => &mut curves.loss,
            _ => &mut curves.images_per_s,
        };
        // A loss that is no number would leave no scale to draw by.
        if scalar.value.is_finite() {
            curve.push((scalar.at_ms, scalar.step, scalar.value));
        }
    }
    for curve in [&mut curves.loss, &mut curves.images_per_s] {
        *curve = means(curve);
    }
    for curve in [&mut curves.knn, &mut curves.members, &mut curves.checkpoints] {
        curve.drain(..curve.len().saturating_sub(POINTS));
    }
    curves
}

fn add(incident: Option<&mut Incident>, event: &Event) {
    let Some(incident) = incident else { return };
    let sentence = event.sentence();
    if incident.what.len() < SENTENCES && incident.what.last() != Some(&sentence) {
        incident.what.push(sentence);
    }
}

/// Means over equal parts; the last point of a part says when.
fn means(points: &[Point]) -> Vec<Point> {
    let part = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[Point]| {
        let (at_ms, step, _) = *part.last()?;
        Some((at_ms, step, part.iter().map(|point| point.2).sum::<f64>() / part.len() as f64))
    };
    points.chunks(part).filter_map(mean).collect()
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
            metrics: BTreeMap::from([(names::LOSS.to_owned(), loss)]),
            seconds: 2.0,
            images: 64,
            wait: 0.0,
            samples: 64,
            samples_hash: 0,
            phases: BTreeMap::new(),
        }
    }

    #[test]
    fn an_incident_lasts_from_the_loss_to_the_next_step() {
        let lost = || Event::NodeLost { node: NodeId([2; 16]), rank: Some(1), because: "killed".into(), fault: None };
        let waits = || Event::Waiting { because: "2 of 4 are there".into() };
        let events =
            [at(1, waits()), at(5, step(1, 3.0)), at(10, lost()), at(11, lost()), at(12, waits()), at(30, step(2, 2.0)), at(40, waits())];
        let curves = of(&events);
        let told: Vec<_> = curves.incidents.iter().map(|i| (i.from_ms, i.to_ms, i.step, i.lost, i.what.len())).collect();
        assert_eq!(told, [(10, Some(30), 1, 2, 2), (40, None, 2, 0, 1)], "waiting before the first step is none");
        assert_eq!(curves.images_per_s, [(5, 1, 32.0), (30, 2, 32.0)]);
    }

    #[test]
    fn long_runs_have_few_points_and_keep_their_last() {
        let events: Vec<Recorded> = (0..10_001).map(|n| at(n, step(n, f64::from(n as u32)))).collect();
        let curves = of(&events);
        assert!(curves.loss.len() <= POINTS, "{}", curves.loss.len());
        assert_eq!(curves.loss.last().map(|point| point.1), Some(10_000));
        let mean = curves.loss[0];
        assert_eq!((mean.1, mean.2), (25, 12.5));
    }

    #[test]
    fn a_step_that_was_done_again_is_drawn_once_and_epochs_where_they_began() {
        let epoch = Event::EpochBegan {
            epoch: Epoch(2),
            step: Step(2),
            leader: NodeId([1; 16]),
            members: Vec::new(),
            because: "a rank was lost".into(),
            state_from: "copies".into(),
            moved_bytes: 0,
            state_epoch: Epoch(1),
            copies: Vec::new(),
        };
        let curves = of(&[at(1, step(1, 3.0)), at(2, step(2, 9.0)), at(5, epoch), at(7, step(2, 2.0))]);
        assert_eq!(curves.loss, [(1, 1, 3.0), (7, 2, 2.0)]);
        assert_eq!(curves.members, [(5, 2, 0.0)]);
    }

    #[test]
    fn a_loss_that_is_no_number_is_left_out() {
        assert_eq!(of(&[at(1, step(1, f64::NAN))]).loss, []);
    }
}
