//! Bytes that the network takes in one lane, from the shapes of its tensors and from what its operations save for the backward pass.
//!
//! Activations have a width of their own, all else is f32. A convolution saves its input and its weight, a batch norm its input, squeeze-and-excitation the map that it weighs, a
//! block's end its output; a graph has a copy of the parameters of its own. `tests/memory.rs` holds the sums against bytes that are really taken.

use super::recompute::Footprint;
use crate::model::layout::{Layout, Part};
use crate::model::regnet::Block;
use crate::model::{Model, cost, parameters};

/// Bytes of a value.
pub const VALUE: u64 = 4;
/// Maps of an output's size that a backward begins with besides the gradient itself: what the ReLU let through, and its way through the batch norm.
const BEGINNING: u64 = 2;

/// Maps in f32 of a batch norm's input that its gradient takes for a while where activations are narrower: the centred input, and the gradient.
const WIDE: u64 = 2;

/// Images that go through the trunk together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// How many, all crops of their size.
    pub images: usize,
    /// Their side.
    pub side: usize,
}

/// Values of a map of one image.
fn map(channels: usize, side: usize) -> u64 {
    channels as u64 * (side as u64).pow(2)
}

/// What the graph of a block holds besides input and output, in values of one image.
fn of_block(block: &Block, side: usize) -> u64 {
    let (first, rest) = (map(block.width, side), map(block.width, cost::strided(side, block.stride)));
    // Inputs of the first norm and of the second convolution; of the second norm, the weighing, the third convolution and the third norm; of the
    // shortcut's norm.
    2 * first + 4 * rest + if block.projects() { rest } else { 0 }
}

/// What a part's graph holds besides input and output, in values of one image.
fn of_part(part: &Part, side: usize) -> u64 {
    match part {
        Part::Stem { width, .. } => map(*width, part.side(side)),
        Part::Block(block) => of_block(block, side),
        Part::Head { .. } | Part::Prototypes { .. } => 0,
    }
}

/// Bytes of one image beyond a part's graph while the gradient of its largest batch norm is computed, activations having `value` bytes: maps in f32, less what
/// the backward of the operations after it has let go of.
fn wide(part: &Part, side: usize, value: u64) -> u64 {
    match part {
        Part::Stem { width, .. } => WIDE * VALUE * map(*width, part.side(side)),
        Part::Block(block) => {
            let first = map(block.width, side);
            (WIDE * VALUE * first).saturating_sub((of_block(block, side) - 2 * first) * value)
        }
        Part::Head { .. } | Part::Prototypes { .. } => 0,
    }
}

/// One unit at one pass: input, output, graph, gradients on their way in bytes, multiply-adds, side of the output.
struct AtPass {
    input: u64,
    output: u64,
    graph: u64,
    transient: u64,
    work: u64,
    side: usize,
}

fn at_pass(layout: &Layout, channels: usize, pass: Pass, value: u64) -> AtPass {
    let images = pass.images as u64;
    let (mut side, mut graph, mut work, mut beyond) = (pass.side, 0, 0, 0);
    for (at, part) in layout.parts.iter().enumerate() {
        graph += of_part(part, side);
        beyond = beyond.max(wide(part, side, value));
        work += part.multiply_adds(side) * images;
        side = part.side(side);
        // Between parts the output of one is the input of the next.
        if at + 1 < layout.parts.len() {
            graph += map(part.channels(), side);
        }
    }
    let out = layout.parts.last().map_or(channels, Part::channels);
    // The leaves, and where activations are narrower the weights that compute.
    let copy = parameters(&layout.unit) as u64 * if value < VALUE { VALUE + value } else { VALUE };
    let output = map(out, side) * images * value;
    let beyond = if value < VALUE { beyond * images } else { 0 };
    AtPass {
        input: map(channels, pass.side) * images * value,
        output,
        graph: graph * images * value + copy,
        transient: beyond.max(BEGINNING * output),
        work,
        side,
    }
}

/// The units of a trunk in one lane whose crops go through it in `passes`, a value of an activation taking `value` bytes.
pub fn trunk(layouts: &[Layout], passes: &[Pass], value: u64) -> Vec<Footprint> {
    let mut passes = passes.to_vec();
    let mut channels = 3;
    let mut units = Vec::with_capacity(layouts.len());
    for layout in layouts {
        let at: Vec<AtPass> = passes.iter().map(|pass| at_pass(layout, channels, *pass, value)).collect();
        let sum = |of: &dyn Fn(&AtPass) -> u64| at.iter().map(of).sum::<u64>();
        let most = |of: &dyn Fn(&AtPass) -> u64| at.iter().map(of).max().unwrap_or_default();
        units.push(Footprint {
            input: sum(&|pass| pass.input),
            output: sum(&|pass| pass.output),
            graph: sum(&|pass| pass.graph),
            largest: most(&|pass| pass.graph + pass.output),
            // The unit's gradient vector, and its tensors' gradients before they are added to it.
            transient: most(&|pass| pass.transient) + VALUE * (layout.unit.len() + parameters(&layout.unit)) as u64,
            work: sum(&|pass| pass.work),
        });
        passes = passes.iter().zip(&at).map(|(pass, at)| Pass { images: pass.images, side: at.side }).collect();
        channels = layout.parts.last().map_or(channels, Part::channels);
    }
    units
}

/// Bytes of head, prototypes and loss in one lane of `rows` crops, without the maps that they pool.
pub fn head(model: &Model, rows: usize) -> u64 {
    let rows = rows as u64;
    let dims = model.head().parts.iter().flat_map(|part| match part {
        Part::Head { dims, norm } => dims.iter().map(|dim| *dim as u64 * if *norm { 2 } else { 1 }).collect(),
        _ => Vec::new(),
    });
    // Scores, their gradient and their codes.
    let maps = rows * (dims.sum::<u64>() * 2 + 4 * model.count() as u64);
    let (head, prototypes) = (parameters(&model.head().unit) as u64, parameters(&model.prototypes().unit) as u64);
    // A copy in the graph, the tensors' gradients, the vector that is reduced: of one unit after the other, the head's copy beside both.
    let weights = head + (2 * head).max(3 * prototypes);
    VALUE * (maps + weights)
}
