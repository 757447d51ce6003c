//! What happened to a run, in order and told once.
//!
//! Every member records what it sees, so that the same step, epoch or loss is told as often as there are members. A [`Story`] keeps
//! the earliest telling. Steps and epochs have numbers that are never used twice in one history; everything else is the same when
//! another node tells the same within half a minute. What one node tells twice happened twice.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use everstep_actors::event::{Event, Recorded};
use everstep_actors::protocol::ids::NodeId;

/// Clocks of the nodes of one run, and the ways by which they notice the same thing, lie at most this far apart.
const SAME_WITHIN_MS: u64 = 30_000;
/// More nodes than this are not remembered as the tellers of one event.
const TELLERS_MAX: usize = 1024;

/// Something that happened, as it is told once.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The earliest telling.
    pub recorded: Recorded,
    /// Who told it, and when by that node's clock; for steps and epochs only the first.
    pub tellers: Vec<(NodeId, u64)>,
}

impl Told {
    /// When it happened, by the first clock that says so.
    pub fn at_ms(&self) -> u64 {
        self.recorded.at_ms
    }

    /// What happened.
    pub fn event(&self) -> &Event {
        &self.recorded.event
    }
}

/// Events in order of time, each once.
#[derive(Debug, Clone, Default)]
pub struct Story {
    told: BTreeMap<Place, Told>,
    places: BTreeSet<(Key, Place)>,
    most: Option<usize>,
    horizon_ms: Option<u64>,
    next: u64,
}

/// Moment and order of arrival.
type Place = (u64, u64);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Step { step: u64, epoch: u64 },
    Epoch(u64),
    Saved(u64),
    Failed(u64),
    Lost(NodeId),
    Other(String),
}

impl Key {
    fn of(event: &Event) -> Self {
        match event {
            Event::StepCommitted { step, epoch, .. } => Self::Step { step: step.0, epoch: epoch.0 },
            Event::EpochBegan { epoch, .. } => Self::Epoch(epoch.0),
            Event::CheckpointSaved { step, .. } => Self::Saved(step.0),
            Event::CheckpointFailed { step, .. } => Self::Failed(step.0),
            Event::NodeLost { node, .. } => Self::Lost(*node),
            other => Self::Other(serde_json::to_string(other).unwrap_or_else(|_| other.sentence())),
        }
    }

    /// Whether it can happen only once.
    fn is_unique(&self) -> bool {
        matches!(self, Self::Step { .. } | Self::Epoch(_))
    }
}

impl Story {
    /// The story of these events, in whatever order they come.
    pub fn of(events: &[Recorded]) -> Self {
        let mut story = Self::default();
        for recorded in events {
            story.add(recorded);
        }
        story
    }

    /// An empty story that remembers at most so many events: the newest ones.
    pub fn bounded(most: usize) -> Self {
        Self { most: Some(most), ..Self::default() }
    }

    /// Takes in one more telling; whether it was news. What is older than everything that a bounded story remembers is none.
    pub fn add(&mut self, recorded: &Recorded) -> bool {
        if self.horizon_ms.is_some_and(|horizon| recorded.at_ms <= horizon) {
            return false;
        }
        let key = Key::of(&recorded.event);
        if let Some(place) = self.same(&key, recorded) {
            self.merge(key, place, recorded);
            return false;
        }
        let place = (recorded.at_ms, self.next);
        self.next += 1;
        self.places.insert((key, place));
        self.told.insert(place, Told { recorded: recorded.clone(), tellers: vec![(recorded.recorded_by, recorded.at_ms)] });
        self.forget();
        true
    }

    /// Everything, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Told> {
        self.told.values()
    }

    /// How many things happened.
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// The first and the last moment that something is known of.
    pub fn known_ms(&self) -> Option<(u64, u64)> {
        Some((self.told.first_key_value()?.0.0, self.told.last_key_value()?.0.0))
    }

    /// Where the same thing has been told.
    fn same(&self, key: &Key, recorded: &Recorded) -> Option<Place> {
        let near = if key.is_unique() { 0..=u64::MAX } else { near(recorded.at_ms) };
        let places = self.places.range((key.clone(), (*near.start(), 0))..=(key.clone(), (*near.end(), u64::MAX)));
        let (by, at) = (recorded.recorded_by, recorded.at_ms);
        let mut joins = None;
        for (_, place) in places {
            let told = self.told.get(place)?;
            if key.is_unique() || told.tellers.contains(&(by, at)) {
                return Some(*place);
            }
            if told.tellers.iter().all(|(teller, _)| *teller != by) {
                joins.get_or_insert(*place);
            }
        }
        joins
    }

    fn merge(&mut self, key: Key, place: Place, recorded: &Recorded) {
        let Some(told) = self.told.get_mut(&place) else { return };
        let teller = (recorded.recorded_by, recorded.at_ms);
        if !key.is_unique() && !told.tellers.contains(&teller) && told.tellers.len() < TELLERS_MAX {
            told.tellers.push(teller);
        }
        if recorded.at_ms >= place.0 {
            return;
        }
        told.recorded = recorded.clone();
        let earlier = (recorded.at_ms, place.1);
        if let Some(told) = self.told.remove(&place) {
            self.places.remove(&(key.clone(), place));
            self.places.insert((key, earlier));
            self.told.insert(earlier, told);
        }
    }

    fn forget(&mut self) {
        while self.most.is_some_and(|most| self.told.len() > most) {
            let Some((place, told)) = self.told.pop_first() else { return };
            self.places.remove(&(Key::of(&told.recorded.event), place));
            self.horizon_ms = Some(place.0);
        }
    }
}

fn near(at_ms: u64) -> RangeInclusive<u64> {
    at_ms.saturating_sub(SAME_WITHIN_MS)..=at_ms.saturating_add(SAME_WITHIN_MS)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{by, committed, epoch, lost, node, saved, waits};
    use super::*;

    fn times(story: &Story) -> Vec<u64> {
        story.events().map(Told::at_ms).collect()
    }

    #[test]
    fn what_many_members_record_is_told_once_at_the_earliest_time() {
        let mut events = Vec::new();
        for (n, late) in [(1, 30), (2, 0), (3, 10)] {
            events.push(by(n, epoch(1_000 + late, 1, 0, 3, "start")));
            events.push(by(n, committed(2_000 + late, 0, 1)));
            events.push(by(n, saved(3_000 + late, 1, 5.0)));
            events.push(by(n, lost(4_000 + late, 3, "silent")));
            events.push(by(n, waits(5_000 + late, "for ranks")));
        }
        let story = Story::of(&events);
        assert_eq!(times(&story), [1_000, 2_000, 3_000, 4_000, 5_000]);
        assert_eq!(story.events().last().unwrap().tellers.len(), 3);
        assert_eq!(story.known_ms(), Some((1_000, 5_000)));
        let mut reversed = events.clone();
        reversed.reverse();
        assert_eq!(times(&Story::of(&reversed)), times(&story), "order of arrival does not matter");
    }

    #[test]
    fn what_happens_again_is_told_again() {
        let events = [committed(1_000, 5, 1), committed(2_000, 5, 2), lost(3_000, 3, "a"), lost(9_000, 3, "b"), by(2, lost(9_500, 3, "b"))];
        assert_eq!(times(&Story::of(&events)), [1_000, 2_000, 3_000, 9_000]);
        let saved_again = [saved(1_000, 5, 1.0), by(2, saved(100_000, 5, 1.0))];
        assert_eq!(Story::of(&saved_again).len(), 2);
    }

    #[test]
    fn reading_everything_again_brings_no_news() {
        let events = [waits(1_000, "x"), by(2, waits(2_000, "x")), waits(20_000, "x"), by(2, waits(21_000, "x")), lost(30_000, 1, "y")];
        let mut story = Story::default();
        let news: Vec<bool> = events.iter().map(|event| story.add(event)).collect();
        assert_eq!(news, [true, false, true, false, true]);
        assert!(events.iter().all(|event| !story.add(event)));
        assert_eq!(story.len(), 3);
    }

    #[test]
    fn a_bounded_story_keeps_the_newest_and_does_not_tell_old_things_anew() {
        let mut story = Story::bounded(10);
        for step in 0..1_000 {
            assert!(story.add(&committed(1_000 * step, step, 1)));
        }
        assert_eq!((story.len(), story.places.len()), (10, 10));
        assert!(!story.add(&committed(500_000, 500, 1)), "it was told once");
        assert!(story.add(&by(9, lost(1_000_000, 3, "z"))));
        assert_eq!(story.events().last().unwrap().recorded.recorded_by, node(9));
    }
}
