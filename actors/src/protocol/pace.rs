//! How fast ranks are, from what their lanes took: when lanes are worth moving, and by which speeds.
//!
//! Pure. A move never changes a result, only who waits for whom.

use std::collections::BTreeMap;

use super::ids::NodeId;
use super::plan;

/// Steps that a judgement rests on.
const STEPS: u32 = 32;
/// A move has to make steps this much shorter, as a share of what they take.
const GAIN: f64 = 0.2;
/// Steps after which a rank without lanes is thought to be like the others again.
const FORGET: u32 = 1_024;

/// What one rank took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Track {
    /// Mean seconds of computing per lane and step, once it has been judged.
    known: Option<f64>,
    seconds: f64,
    steps: u32,
    idle: u32,
}

/// The ranks of a run; see the module's text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pace {
    tracks: BTreeMap<NodeId, Track>,
    steps: u32,
}

impl Pace {
    /// What a node's lanes took in one step: seconds in which at least one of them computed.
    pub fn add(&mut self, node: NodeId, lanes: u32, seconds: f64) {
        let track = self.tracks.entry(node).or_default();
        if lanes == 0 {
            track.idle += 1;
            if track.idle >= FORGET {
                *track = Track::default();
            }
        } else if seconds.is_finite() {
            track.seconds += seconds / f64::from(lanes);
            track.steps += 1;
            track.idle = 0;
        }
    }

    /// A step has ended. Every so many of them: the speeds (the fastest has 100) of `members` by which lanes should be placed
    /// anew, where that makes steps a good deal shorter than `placed` does; lanes as (first, one past the last) by rank.
    pub fn speeds(&mut self, members: &[NodeId], placed: &[(u32, u32)]) -> Option<BTreeMap<NodeId, u32>> {
        self.steps += 1;
        if self.steps < STEPS {
            return None;
        }
        self.steps = 0;
        for track in self.tracks.values_mut().filter(|track| track.steps * 2 >= STEPS) {
            track.known = Some(track.seconds / f64::from(track.steps));
            (track.seconds, track.steps) = (0.0, 0);
        }
        self.tracks.retain(|node, _| members.contains(node));
        let known = |node: &NodeId| self.tracks.get(node).and_then(|track| track.known);
        let mut all: Vec<f64> = members.iter().filter_map(known).collect();
        all.sort_by(f64::total_cmp);
        let (fastest, middle) = (*all.first()?, *all.get(all.len() / 2)?);
        let costs: Vec<f64> = members.iter().map(|node| known(node).unwrap_or(middle).max(f64::MIN_POSITIVE)).collect();
        let speeds: Vec<u32> = costs.iter().map(|cost| ((100.0 * fastest / cost).round() as u32).max(1)).collect();
        let takes =
            |lanes: &[(u32, u32)]| lanes.iter().zip(&costs).map(|((start, end), cost)| f64::from(end - start) * cost).fold(0.0, f64::max);
        let lanes = placed.iter().map(|(_, end)| *end).max()?;
        let better = takes(&plan::lanes_by_speed(&speeds, lanes)) <= takes(placed) * (1.0 - GAIN);
        better.then(|| members.iter().copied().zip(speeds).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    /// What is said after `STEPS` steps in which each rank's lanes took so many seconds each.
    fn after(pace: &mut Pace, placed: &[(u32, u32)], costs: &[f64]) -> Option<BTreeMap<NodeId, u32>> {
        let members: Vec<NodeId> = (0..costs.len() as u8).map(node).collect();
        let mut said = None;
        for _ in 0..STEPS {
            for ((member, (start, end)), cost) in members.iter().zip(placed).zip(costs) {
                pace.add(*member, end - start, f64::from(end - start) * cost);
            }
            // Every step is told.
            let now = pace.speeds(&members, placed);
            said = said.or(now);
        }
        said
    }

    #[test]
    fn lanes_move_away_from_a_slow_rank_and_only_where_that_pays() {
        let even = [(0, 4), (4, 8)];
        let table =
            [(vec![1.0, 1.0], None), (vec![1.0, 1.2], None), (vec![1.0, 3.0], Some(vec![100, 33])), (vec![2.0, 1.0], Some(vec![50, 100]))];
        for (costs, speeds) in table {
            let said = after(&mut Pace::default(), &even, &costs).map(|speeds| speeds.into_values().collect::<Vec<_>>());
            assert_eq!(said, speeds, "{costs:?}");
        }
        // Placed by those speeds already: nothing is gained by saying so again.
        assert_eq!(after(&mut Pace::default(), &[(0, 6), (6, 8)], &[1.0, 3.0]), None);
    }

    #[test]
    fn one_slow_step_moves_nothing() {
        let (members, placed) = ([node(0), node(1)], [(0, 4), (4, 8)]);
        let mut pace = Pace::default();
        for step in 0..2 * STEPS {
            pace.add(node(0), 4, 4.0);
            pace.add(node(1), 4, if step == 5 { 9.0 } else { 4.0 });
            assert_eq!(pace.speeds(&members, &placed), None);
        }
    }

    #[test]
    fn a_rank_without_lanes_is_given_another_chance_in_time() {
        let mut pace = Pace::default();
        assert!(after(&mut pace, &[(0, 2), (2, 4)], &[1.0, 9.0]).is_some());
        let placed = [(0, 4), (4, 4)];
        let mut turns = 0;
        while after(&mut pace, &placed, &[1.0, 1.0]).is_none() {
            turns += 1;
            assert!(turns <= FORGET / STEPS + 1, "it stays idle for ever");
        }
        assert!(turns >= FORGET / STEPS - 1, "too soon: {turns}");
    }
}
