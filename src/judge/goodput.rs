//! Goodput: what each second of each rank was spent on, from the first event to the last. The shares sum to the whole, exactly.
//!
//! Time is counted in whole milliseconds of ranks, so that nothing is lost to rounding. Before the first epoch the ranks of the first
//! epoch count, after a change those of the new one, while nothing runs those of the last.

use std::collections::{BTreeMap, HashMap};

use everstep_actors::event::{Event, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::incidents::Incident;
use super::layout::{WIDTH, count, fit, table};
use super::moment::utc;
use super::story::{Story, Told};
use super::timeline::{Gap, Mode, Timeline};
use crate::report::duration;

/// Where the time of all ranks went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Goodput {
    /// The version of this schema.
    pub schema_version: u32,
    /// The first event, milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// The last event.
    pub to_ms: u64,
    /// Seconds between them, times ranks.
    pub rank_seconds: f64,
    /// Percent of them that went into steps that stand: data, compute, exchange, update, vote.
    pub goodput_percent: f64,
    /// Steps that stand.
    pub steps: u64,
    /// Commits of steps that were computed again later.
    pub steps_redone: u64,
    /// All of the time, and then the percentages sum to 100; or those parts that were asked for.
    pub shares: Vec<Share>,
    /// The incidents that are named in the shares, and the others.
    pub incidents: Vec<Incident>,
}

/// A part of the time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// `compute`, `exchange`, `data`, `update`, `vote`, `redo`, `checkpoint`, `stall`, `starting`, `ending`, `nothing running`, or
    /// `untold` for time of which no event says anything.
    pub on: String,
    /// The incident's number, for a stall.
    pub incident: Option<u32>,
    /// Seconds times ranks.
    pub rank_seconds: f64,
    /// Percent of all, in tenths that sum to 100 over all shares.
    pub percent: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum On {
    Compute,
    Exchange,
    Data,
    Update,
    Vote,
    OtherPhase,
    Redo,
    Checkpoint,
    Stall(u32),
    Starting,
    Ending,
    Nothing,
    Untold,
}

impl On {
    fn phase(name: &str) -> Self {
        match name {
            "compute" => Self::Compute,
            "exchange" => Self::Exchange,
            "data" => Self::Data,
            "update" => Self::Update,
            "vote" => Self::Vote,
            _ => Self::OtherPhase,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Exchange => "exchange",
            Self::Data => "data",
            Self::Update => "update",
            Self::Vote => "vote",
            Self::OtherPhase => "other phases",
            Self::Redo => "redo",
            Self::Checkpoint => "checkpoint",
            Self::Stall(_) => "stall",
            Self::Starting => "starting",
            Self::Ending => "ending",
            Self::Nothing => "nothing running",
            Self::Untold => "untold",
        }
    }

    fn is_good(self) -> bool {
        matches!(self, Self::Compute | Self::Exchange | Self::Data | Self::Update | Self::Vote | Self::OtherPhase)
    }
}

/// What the time of a run went into.
pub fn goodput(events: &[Recorded]) -> Goodput {
    let story = Story::of(events);
    let timeline = Timeline::of(&story);
    let stalls = checkpoint_stalls(&story, &timeline.gaps);
    let mut spent: BTreeMap<On, u128> = BTreeMap::new();
    for (index, gap) in timeline.gaps.iter().enumerate() {
        let incident = gap.incident.and_then(|index| timeline.incidents.get(index)).map(|incident| incident.number);
        attribute(gap, incident, stalls.get(&index).copied().unwrap_or(0), &mut spent);
    }
    spent.retain(|_, ms| *ms > 0);
    let (from_ms, to_ms) = story.known_ms().unwrap_or_default();
    let total: u128 = spent.values().sum();
    let amounts: Vec<u128> = spent.values().copied().collect();
    let tenths = split(1_000, &amounts);
    let share = |((on, ms), tenths): ((&On, &u128), u128)| Share {
        on: on.name().to_owned(),
        incident: if let On::Stall(number) = on { Some(*number) } else { None },
        rank_seconds: *ms as f64 / 1e3,
        percent: tenths as f64 / 10.0,
    };
    let good: u128 = spent.iter().filter(|(on, _)| on.is_good()).map(|(_, ms)| ms).sum();
    let commits = || timeline.gaps.iter().filter(|gap| gap.commit.is_some());
    Goodput {
        schema_version: super::SCHEMA_VERSION,
        from_ms,
        to_ms,
        rank_seconds: total as f64 / 1e3,
        goodput_percent: if total == 0 { 0.0 } else { (good as f64 / total as f64 * 1e3).round() / 10.0 },
        steps: commits().filter(|gap| !gap.redone).count() as u64,
        steps_redone: commits().filter(|gap| gap.redone).count() as u64,
        shares: spent.iter().zip(tenths).map(share).collect(),
        incidents: timeline.incidents,
    }
}

impl Goodput {
    /// For people: a headline, a table, the incidents in words.
    pub fn text(&self) -> Vec<String> {
        if self.rank_seconds <= 0.0 {
            return Vec::new();
        }
        let steps = count(self.steps, "step");
        let redone = if self.steps_redone > 0 { format!(", {} computed again", self.steps_redone) } else { String::new() };
        let mut lines = vec![
            format!("goodput {:.1} % of {} of rank-time: {steps} that stand{redone}", self.goodput_percent, duration(self.rank_seconds)),
            format!("from {} to {}", utc(self.from_ms), utc(self.to_ms)),
            String::new(),
        ];
        let mut rows = vec![["SPENT ON", "RANK-TIME", "SHARE", "WHY"].map(str::to_owned)];
        rows.extend(self.shares.iter().map(|share| {
            let incident = share.incident.and_then(|number| self.incidents.iter().find(|incident| incident.number == number));
            let on = share.incident.map_or_else(|| share.on.clone(), |number| format!("{} by incident {number}", share.on));
            let why = incident.map_or_else(|| explained(&share.on).to_owned(), |incident| incident.cause.clone());
            [on, duration(share.rank_seconds), format!("{:>5.1} %", share.percent), why]
        }));
        let percent: u32 = self.shares.iter().map(|share| (share.percent * 10.0).round() as u32).sum();
        let seconds: f64 = self.shares.iter().map(|share| share.rank_seconds).sum();
        let sum = [String::from("sum"), duration(seconds), format!("{:>5.1} %", f64::from(percent) / 10.0), String::new()];
        rows.push(sum);
        lines.extend(table(&rows, Some(WIDTH)).into_iter().map(|line| fit(&line, WIDTH)));
        lines
    }
}

fn explained(on: &str) -> &'static str {
    match on {
        "compute" => "forward and backward passes of steps that stand",
        "exchange" => "activations, gradients and weights between ranks",
        "data" => "waiting for images",
        "update" => "optimizer steps",
        "vote" => "agreeing that a step is stable",
        "redo" => "steps that had to be computed again later",
        "checkpoint" => "ranks held up for snapshots",
        "starting" => "from a beginning to its first step",
        "ending" => "from the last step to an end in good order",
        "nothing running" => "between an end and the next beginning",
        "untold" => "no event says anything about it",
        _ => "",
    }
}

/// For how long ranks were held up for a snapshot, by the gap that it lies in: the step that follows the snapshot, else the one before.
fn checkpoint_stalls(story: &Story, gaps: &[Gap]) -> HashMap<usize, u64> {
    let committed = gaps.iter().enumerate().filter_map(|(index, gap)| Some((gap.commit.as_ref()?.step, index)));
    let by_step: HashMap<u64, usize> = committed.collect();
    let stall = |told: &Told| match told.event() {
        Event::CheckpointSaved { step, stall_ms, .. } if stall_ms.is_finite() && *stall_ms > 0.0 => {
            let gap = by_step.get(&step.0).or_else(|| by_step.get(&step.0.checked_sub(1)?))?;
            Some((*gap, stall_ms.round() as u64))
        }
        _ => None,
    };
    let mut stalls: HashMap<usize, u64> = HashMap::new();
    for (gap, ms) in story.events().filter_map(stall) {
        let all = stalls.entry(gap).or_default();
        *all = all.saturating_add(ms);
    }
    stalls
}

fn attribute(gap: &Gap, incident: Option<u32>, held_ms: u64, spent: &mut BTreeMap<On, u128>) {
    let mut own_left = gap.own_ms;
    let mut own: u128 = 0;
    let mut held: u128 = 0;
    let mut held_left = held_ms.min(gap.own_ms);
    for slice in gap.slices.iter().rev() {
        let ranks = u128::from(slice.ranks);
        if slice.mode == Mode::Nothing {
            *spent.entry(On::Nothing).or_default() += u128::from(slice.ms()) * ranks;
            continue;
        }
        let of_step = slice.ms().min(own_left);
        own_left -= of_step;
        let of_save = of_step.min(held_left);
        held_left -= of_save;
        own += u128::from(of_step - of_save) * ranks;
        held += u128::from(of_save) * ranks;
        let on = match (slice.mode, gap.ends, incident) {
            (Mode::Starting, _, _) => On::Starting,
            (_, true, _) => On::Ending,
            (_, false, Some(number)) => On::Stall(number),
            (_, false, None) => On::Untold,
        };
        *spent.entry(on).or_default() += u128::from(slice.ms() - of_step) * ranks;
    }
    *spent.entry(On::Checkpoint).or_default() += held;
    if gap.redone {
        *spent.entry(On::Redo).or_default() += own;
        return;
    }
    let Some(commit) = &gap.commit else { return };
    let usable = commit.phases.iter().filter(|(_, s)| s.is_finite() && **s > 0.0);
    let mut phases: Vec<(On, u128)> = usable.map(|(name, s)| (On::phase(name), (s.min(1e9) * 1e6) as u128)).collect();
    if phases.iter().all(|(_, weight)| *weight == 0) {
        let wait = if commit.wait.is_finite() { commit.wait.clamp(0.0, 1.0) } else { 0.0 };
        let wait = (wait * 1e6).round() as u128;
        phases = vec![(On::Compute, 1_000_000 - wait), (On::Exchange, wait)];
    }
    let weights: Vec<u128> = phases.iter().map(|(_, weight)| *weight).collect();
    for ((on, _), ms) in phases.iter().zip(split(own, &weights)) {
        *spent.entry(*on).or_default() += ms;
    }
}

/// Splits a whole by weights so that the parts sum to it: the greatest remainders are rounded up.
fn split(whole: u128, weights: &[u128]) -> Vec<u128> {
    let total: u128 = weights.iter().sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let mut parts: Vec<u128> = weights.iter().map(|weight| whole.saturating_mul(*weight) / total).collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|index| std::cmp::Reverse(whole.saturating_mul(weights[*index]) % total));
    let mut left = whole.saturating_sub(parts.iter().sum());
    for index in by_remainder.into_iter().cycle() {
        if left == 0 {
            break;
        }
        parts[index] += 1;
        left -= 1;
    }
    parts
}

#[cfg(test)]
mod tests;
