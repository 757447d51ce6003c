//! Whom a fault strikes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A selector of nodes. Those that draw do so from the scenario's seed, among nodes that live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One, drawn.
    One,
    /// So many, drawn: `n=3`.
    Count(u32),
    /// A share, drawn, rounded down, one at least: `50%`.
    Percent(u32),
    /// Everyone.
    All,
    /// The leader of the newest epoch.
    Leader,
    /// Everyone but the leader.
    Others,
    /// The member that leads next if the leader goes.
    Next,
    /// The rank in the newest epoch: `rank=2`.
    Rank(u32),
    /// The process by its place in the cluster, from 0: `node=3`.
    Node(u32),
    /// All processes of one machine, from 0: `host=1`.
    Host(u32),
    /// All processes of a zone: `zone=b`.
    Zone(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("`{text}` selects nobody: write one, n=3, 50%, all, leader, others, next, rank=2, node=3, host=1 or zone=b");
        let number = |text: &str| text.parse().map_err(|_| unknown());
        Ok(match text {
            "one" => Self::One,
            "all" => Self::All,
            "leader" => Self::Leader,
            "others" => Self::Others,
            "next" => Self::Next,
            _ => match (text.split_once('='), text.strip_suffix('%')) {
                (Some(("n", count)), _) => Self::Count(number(count)?),
                (Some(("rank", rank)), _) => Self::Rank(number(rank)?),
                (Some(("node", node)), _) => Self::Node(number(node)?),
                (Some(("host", host)), _) => Self::Host(number(host)?),
                (Some(("zone", zone)), _) if !zone.is_empty() => Self::Zone(zone.into()),
                (None, Some(percent)) => Self::Percent(number(percent)?),
                _ => return Err(unknown()),
            },
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => write!(f, "one"),
            Self::Count(count) => write!(f, "n={count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::All => write!(f, "all"),
            Self::Leader => write!(f, "leader"),
            Self::Others => write!(f, "others"),
            Self::Next => write!(f, "next"),
            Self::Rank(rank) => write!(f, "rank={rank}"),
            Self::Node(node) => write!(f, "node={node}"),
            Self::Host(host) => write!(f, "host={host}"),
            Self::Zone(zone) => write!(f, "zone={zone}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What selectors are resolved against: one node that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the cluster, from 0.
    pub slot: u32,
    /// Its machine.
    pub host: u32,
    /// Its machine's zone.
    pub zone: String,
    /// Its rank in the newest epoch.
    pub rank: Option<u32>,
    /// Whether it leads the newest epoch.
    pub leads: bool,
}

impl Target {
    /// The places of those selected, ascending; `draw(n)` gives a number below `n`.
    pub fn pick(&self, nodes: &[Candidate], mut draw: impl FnMut(usize) -> usize) -> Vec<u32> {
        let by = |keep: &dyn Fn(&Candidate) -> bool| nodes.iter().filter(|node| keep(node)).map(|node| node.slot).collect::<Vec<_>>();
        let mut drawn = |count: usize| {
            let mut left = by(&|_| true);
            let mut picked: Vec<u32> = (0..count.min(left.len())).map(|_| left.swap_remove(draw(left.len()))).collect();
            picked.sort_unstable();
            picked
        };
        match self {
            Self::One => drawn(1),
            Self::Count(count) => drawn(*count as usize),
            Self::Percent(percent) => drawn((nodes.len() * *percent as usize / 100).max(1)),
            Self::All => by(&|_| true),
            Self::Leader => by(&|node| node.leads),
            Self::Others => by(&|node| !node.leads),
            Self::Next => {
                let next = nodes.iter().filter(|node| !node.leads && node.rank.is_some()).min_by_key(|node| node.rank);
                next.map(|node| node.slot).into_iter().collect()
            }
            Self::Rank(rank) => by(&|node| node.rank == Some(*rank)),
            Self::Node(slot) => by(&|node| node.slot == *slot),
            Self::Host(host) => by(&|node| node.host == *host),
            Self::Zone(zone) => by(&|node| node.zone == *zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_pick_whom_they_name() {
        let node = |slot: u32| Candidate {
            slot,
            host: slot / 2,
            zone: ["a", "b"][slot as usize / 2].into(),
            rank: slot.checked_sub(1),
            leads: slot == 1,
        };
        let nodes: Vec<Candidate> = (0..4).map(node).collect();
        let table = [
            ("one", vec![3]),
            ("n=2", vec![2, 3]),
            ("50%", vec![2, 3]),
            ("all", vec![0, 1, 2, 3]),
            ("leader", vec![1]),
            ("others", vec![0, 2, 3]),
            ("next", vec![2]),
            ("rank=2", vec![3]),
            ("node=0", vec![0]),
            ("host=1", vec![2, 3]),
            ("zone=b", vec![2, 3]),
        ];
        for (text, slots) in table {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
            assert_eq!(target.pick(&nodes, |n| n - 1), slots, "{text}");
        }
        assert!("zone=".parse::<Target>().is_err() && "n=x".parse::<Target>().is_err());
    }
}
