//! The memory plan: which units of the trunk keep their graph from forward to backward, and which compute it again.
//!
//! A plan cuts the units into segments. A kept unit holds its input and what its operations save. A recomputed
//! segment of one or more units holds the input of its first unit alone; its backward runs it forward again. With H the bytes held by
//! the segments before, the backward of unit u needs, at its height,
//!
//! H + inputs + Σ (graph + output of the segment's units up to u) + output of u (its gradient) + transient of u
//!
//! and the head needs H of all segments + the last output + its own. The plan with the least multiply-adds computed again that
//! keeps all of these within a budget is found by dynamic programming over (units placed, H): of two ways to place the first p units the one that
//! holds no less and works no less can be dropped, because all that follows depends on H alone.

use std::ops::Range;

/// Bytes of one unit in one lane, all sizes of crops together unless said otherwise, and its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// What comes in.
    pub input: u64,
    /// What goes out.
    pub output: u64,
    /// What a kept graph holds besides.
    pub graph: u64,
    /// Graph and output of that size of crop that needs most: a unit that is recomputed last in its segment goes through one size after the other.
    pub largest: u64,
    /// What its backward takes for a while: gradients on their way.
    pub transient: u64,
    /// Multiply-adds of its forward.
    pub work: u64,
}

/// Neighbouring units that are treated alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Indices of the units.
    pub units: Range<usize>,
    /// Whether they are computed again from the input of the first; otherwise they keep their graphs.
    pub recompute: bool,
}

/// Units of a recomputed segment at most.
const UNITS_MAX: usize = 32;
/// Ways to place the first units that are remembered at most. Beyond it the plan still fits, but may work more than the least; blocks that are alike make
/// few ways, so that no RegNet comes near.
const WAYS_MAX: usize = 4096;

/// Every unit keeps its graph.
pub fn never(units: usize) -> Vec<Segment> {
    (0..units).map(|unit| Segment { units: unit..unit + 1, recompute: false }).collect()
}

/// Every unit is computed again from its own input.
pub fn always(units: usize) -> Vec<Segment> {
    (0..units).map(|unit| Segment { units: unit..unit + 1, recompute: true }).collect()
}

/// Bytes that a segment holds between forward and backward.
fn held(units: &[Footprint], segment: &Segment) -> u64 {
    match segment.recompute {
        true => units[segment.units.start].input,
        false => units[segment.units.clone()].iter().map(|unit| unit.input + unit.graph).sum(),
    }
}

/// Bytes at the height of a segment's backward, without those that segments before it hold.
fn height(units: &[Footprint], segment: &Segment) -> u64 {
    let mut height = 0;
    let mut below = units[segment.units.start].input;
    for at in segment.units.clone() {
        let unit = &units[at];
        let last = at + 1 == segment.units.end;
        let here = if segment.recompute && last { unit.largest } else { unit.graph + unit.output };
        height = height.max(below + here + unit.output + unit.transient);
        below += unit.graph + unit.output;
    }
    height
}

/// Multiply-adds that a plan computes again.
pub fn work(units: &[Footprint], plan: &[Segment]) -> u64 {
    let again = plan.iter().filter(|segment| segment.recompute);
    again.flat_map(|segment| &units[segment.units.clone()]).map(|unit| unit.work).sum()
}

/// Bytes at the height of a step of one lane. `head`: what the head takes besides the last output.
pub fn peak(units: &[Footprint], head: u64, plan: &[Segment]) -> u64 {
    let (mut below, mut peak) = (0, 0);
    for segment in plan {
        peak = peak.max(below + height(units, segment));
        below += held(units, segment);
    }
    peak.max(below + units.last().map_or(0, |unit| unit.output) + head)
}

/// One way to place the first units.
#[derive(Debug, Clone, Copy)]
struct Way {
    held: u64,
    work: u64,
    /// Where the last segment begins, which way led there, and whether it is recomputed.
    from: (usize, usize, bool),
}

/// The plan that computes least again within `budget` bytes; `None` if none fits.
pub fn least_work(units: &[Footprint], head: u64, budget: u64) -> Option<Vec<Segment>> {
    let count = units.len();
    let mut ways: Vec<Vec<Way>> = vec![vec![Way { held: 0, work: 0, from: (0, 0, false) }]];
    for end in 1..=count {
        let mut here = Vec::new();
        for (start, before) in ways.iter().enumerate().skip(end.saturating_sub(UNITS_MAX)) {
            for recompute in [false, true] {
                let segment = Segment { units: start..end, recompute };
                // Units that are kept are alike one by one and together.
                if !recompute && end - start > 1 {
                    continue;
                }
                let (height, held) = (height(units, &segment), held(units, &segment));
                let again = work(units, std::slice::from_ref(&segment));
                let before = before.iter().enumerate().filter(|(_, way)| way.held + height <= budget);
                here.extend(before.map(|(at, way)| Way { held: way.held + held, work: way.work + again, from: (start, at, recompute) }));
            }
        }
        ways.push(undominated(here));
    }
    let room = budget.checked_sub(head + units.last().map_or(0, |unit| unit.output))?;
    let best = ways[count].iter().enumerate().filter(|(_, way)| way.held <= room).min_by_key(|(_, way)| (way.work, way.held))?.0;
    let (mut end, mut at, mut plan) = (count, best, Vec::new());
    while end > 0 {
        let (start, before, recompute) = ways[end][at].from;
        plan.push(Segment { units: start..end, recompute });
        (end, at) = (start, before);
    }
    plan.reverse();
    Some(plan)
}

/// Ways of which none holds and works no less than another, least held first.
fn undominated(mut ways: Vec<Way>) -> Vec<Way> {
    ways.sort_by_key(|way| (way.held, way.work, way.from));
    let mut least = u64::MAX;
    ways.retain(|way| {
        way.work < least && {
            least = way.work;
            true
        }
    });
    if ways.len() > WAYS_MAX {
        let last = ways.len() - 1;
        ways = (0..WAYS_MAX).map(|i| ways[i * last / (WAYS_MAX - 1)]).collect();
    }
    ways
}

/// The least bytes that any plan needs.
pub fn least_memory(units: &[Footprint], head: u64) -> u64 {
    let (mut low, mut high) = (0, peak(units, head, &always(units.len())));
    while low < high {
        let middle = low + (high - low) / 2;
        if fits(units, head, middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// Whether any plan fits: the least held for each number of units placed, since less is never worse.
fn fits(units: &[Footprint], head: u64, budget: u64) -> bool {
    let mut least = vec![Some(0)];
    for end in 1..=units.len() {
        let here = (end.saturating_sub(UNITS_MAX)..end).filter_map(|start| {
            let segment = Segment { units: start..end, recompute: true };
            let before: u64 = least[start]?;
            (before + height(units, &segment) <= budget).then(|| before + held(units, &segment))
        });
        least.push(here.min());
    }
    least[units.len()].is_some_and(|held| held + head + units.last().map_or(0, |unit| unit.output) <= budget)
}

/// SEER's plan: at most `segments` segments, all recomputed, cut so that the largest sum of graph and output bytes of a segment is
/// as small as can be (vissl's dynamic activation checkpointing). What segments hold meanwhile is not looked at.
pub fn min_max(units: &[Footprint], segments: usize) -> Vec<Segment> {
    let sizes: Vec<u64> = units.iter().map(|unit| unit.graph + unit.output).collect();
    let count = units.len();
    // best[r][start]: the smallest maximum for the units from `start` in r + 1 segments at most, and where the first one ends.
    let mut best: Vec<Vec<(u64, usize)>> = Vec::new();
    for more in 0..segments.clamp(1, count.max(1)) {
        let from = |start: usize| {
            let whole = (sizes[start..].iter().sum(), count);
            let cut = |end: usize| (sizes[start..end].iter().sum::<u64>().max(best[more - 1][end].0), end);
            match more {
                0 => whole,
                _ => (start + 1..count).map(cut).chain([whole]).min().unwrap_or(whole),
            }
        };
        let row = (0..count).map(from).collect();
        best.push(row);
    }
    let (mut start, mut plan) = (0, Vec::new());
    for row in best.iter().rev() {
        if start < count {
            let end = row[start].1;
            plan.push(Segment { units: start..end, recompute: true });
            start = end;
        }
    }
    plan
}

#[cfg(test)]
mod tests;
