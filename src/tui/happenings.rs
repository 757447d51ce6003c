//! What happened, made small enough to keep and to draw.

use everstep_actors::desk::view::{EventView, Item, Properties};
use everstep_actors::event::words::Severity;
use everstep_actors::event::{Event, Recorded};

use super::ask::STEP;
use super::history::{History, Point};
use crate::judge::incidents::{self, Incident};
use crate::judge::story::{Story, Told};
use crate::report::names;

/// Events that are kept, beside committed steps.
const HAPPENINGS_MAX: usize = 4096;
/// Committed steps that are kept as events.
const STEPS_MAX: usize = 512;
/// Events from which incidents are made: the newest.
const STORY_MAX: usize = 100_000;
/// Clocks of nodes that tell the same lie at most this far apart.
const SAME_WITHIN_MS: u64 = 30_000;

/// An event, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Happening {
    /// When, milliseconds since the Unix epoch.
    pub(super) at_ms: u64,
    /// Reference of the node that recorded it.
    pub(super) by: String,
    /// Its name in the log.
    pub(super) name: String,
    /// How much it matters.
    pub(super) severity: Severity,
    /// One sentence.
    pub(super) text: String,
}

impl Happening {
    fn of(recorded: &Recorded) -> Self {
        let event = &recorded.event;
        Self {
            at_ms: recorded.at_ms,
            by: format!("node/{}", recorded.recorded_by),
            name: event.name().to_owned(),
            severity: event.severity(),
            text: event.sentence(),
        }
    }

    /// Of a live event.
    pub(super) fn of_item(item: &Item) -> Option<Self> {
        let Properties::Event(EventView { at_ms, recorded_by, event, severity, text, .. }) = &item.properties else { return None };
        let known = [Severity::Error, Severity::Warning].into_iter().find(|known| known.name() == severity);
        let severity = known.unwrap_or(Severity::Info);
        Some(Self { at_ms: *at_ms, by: recorded_by.clone(), name: event.clone(), severity, text: text.clone() })
    }

    /// Whether it is one of the many steps.
    pub(super) fn is_step(&self) -> bool {
        self.name == STEP
    }

    /// Whether another node tells the same, or the same node in another way.
    fn same(&self, other: &Self) -> bool {
        let near = if self.by == other.by { 0 } else { SAME_WITHIN_MS };
        self.at_ms.abs_diff(other.at_ms) <= near && self.name == other.name && self.text == other.text
    }
}

/// Everything that is durable, in short.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Digest {
    /// Loss and throughput.
    pub(super) history: History,
    /// The newest events, oldest first.
    pub(super) happenings: Vec<Happening>,
    /// The newest incidents, oldest first.
    pub(super) incidents: Vec<Incident>,
    /// Whether there are older events that are not kept.
    pub(super) older: bool,
    /// Whether there are older steps that are not kept as events.
    pub(super) older_steps: bool,
    /// The first and the last moment that something is known of, milliseconds since the Unix epoch.
    pub(super) known_ms: Option<(u64, u64)>,
}

impl Digest {
    /// Of events in order of time.
    pub(super) fn of(events: &[Recorded]) -> Self {
        let (mut history, mut story) = (History::default(), Story::bounded(STORY_MAX));
        for recorded in events {
            story.add(recorded);
            if let Event::StepCommitted { step, epoch, metrics, seconds, images, .. } = &recorded.event {
                let images_per_s = if *seconds > 0.0 { *images as f64 / seconds } else { 0.0 };
                let loss = metrics.get(names::LOSS).copied();
                history.push(Point { step: step.0 + 1, epoch: epoch.0, at_ms: recorded.at_ms, loss, images_per_s });
            }
        }
        let newest = |steps: bool| {
            let wanted = move |told: &&Told| matches!(told.event(), Event::StepCommitted { .. }) == steps;
            story.events().rev().filter(wanted).map(|told| Happening::of(&told.recorded))
        };
        let (mut happenings, steps): (Vec<_>, Vec<_>) =
            (newest(false).take(HAPPENINGS_MAX).collect(), newest(true).take(STEPS_MAX).collect());
        let all = story.len() == STORY_MAX;
        let (older, older_steps) = (all || happenings.len() == HAPPENINGS_MAX, all || steps.len() == STEPS_MAX);
        happenings.extend(steps);
        happenings.sort_by_key(|happening| happening.at_ms);
        let incidents = incidents::of(&story);
        Self { history, happenings, incidents, older, older_steps, known_ms: story.known_ms() }
    }

    /// Adds live events that the store does not have yet.
    pub(super) fn add(&mut self, live: impl Iterator<Item = Happening>) {
        for happening in live {
            if !self.happenings.iter().any(|known| known.same(&happening)) {
                let at = self.happenings.partition_point(|known| known.at_ms <= happening.at_ms);
                self.happenings.insert(at, happening);
            }
        }
        let over = self.happenings.len().saturating_sub(HAPPENINGS_MAX + STEPS_MAX);
        self.older |= over > 0;
        self.happenings.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use everstep_actors::protocol::ids::{NodeId, Step};

    use super::*;

    fn failed(at_ms: u64, by: u8) -> Recorded {
        let event = Event::CheckpointFailed { step: Step(4), because: "full".into() };
        Recorded { at_ms, recorded_by: NodeId([by; 16]), event }
    }

    #[test]
    fn what_every_member_tells_is_told_once_and_live_events_do_not_double_the_stored_ones() {
        let mut digest = Digest::of(&[failed(1_000, 1), failed(1_200, 2), failed(90_000, 1)]);
        let times = |digest: &Digest| digest.happenings.iter().map(|happening| happening.at_ms).collect::<Vec<_>>();
        assert_eq!(times(&digest), [1_000, 90_000]);
        let live = [failed(90_000, 1), failed(91_000, 2), failed(150_000, 2)].map(|recorded| Item::of_event(&recorded));
        digest.add(live.iter().filter_map(Happening::of_item));
        assert_eq!(times(&digest), [1_000, 90_000, 150_000]);
        assert_eq!((digest.older, digest.known_ms), (false, Some((1_000, 90_000))));
    }
}
