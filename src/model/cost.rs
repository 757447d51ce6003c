//! What the network costs, counted from its shapes: multiply-adds and feature maps, without a single weight.

use super::layout::Part;
use super::regnet::Block;

/// Side of what a 3×3 (padding 1) or 1×1 convolution makes of a side.
pub fn strided(side: usize, stride: usize) -> usize {
    side.div_ceil(stride)
}

impl Part {
    /// Side of the part's output for an input of this side.
    pub fn side(&self, side: usize) -> usize {
        match self {
            Self::Stem { stride, .. } => strided(side, *stride),
            Self::Block(block) => strided(side, block.stride),
            Self::Head { .. } | Self::Prototypes { .. } => 1,
        }
    }

    /// Channels of the part's output.
    pub fn channels(&self) -> usize {
        match self {
            Self::Stem { width, .. } => *width,
            Self::Block(block) => block.width,
            Self::Head { dims, .. } => dims.last().copied().unwrap_or_default(),
            Self::Prototypes { count, .. } => *count,
        }
    }

    /// Multiply-adds of one forward pass of one image whose side at the part's input is `side`: those of convolutions and
    /// linear layers, squeeze-and-excitation among them; norms, activations and biases are not counted.
    pub fn multiply_adds(&self, side: usize) -> u64 {
        let out = (self.side(side) as u64).pow(2);
        match self {
            Self::Stem { width, .. } => 27 * *width as u64 * out,
            Self::Block(block) => of_block(block, (side as u64).pow(2), out),
            Self::Head { dims, .. } => dims.windows(2).map(|layer| (layer[0] * layer[1]) as u64).sum(),
            Self::Prototypes { dim, count } => (dim * count) as u64,
        }
    }
}

fn of_block(block: &Block, input: u64, out: u64) -> u64 {
    let [wide, narrow, squeeze] = [block.width as u64, block.input as u64, block.squeeze as u64];
    let shortcut = if block.projects() { narrow * wide * out } else { 0 };
    let group = wide / block.groups as u64;
    shortcut + narrow * wide * input + 9 * group * wide * out + 2 * wide * squeeze + wide * wide * out
}

/// Multiply-adds of one forward pass of one square image through neighbouring parts.
pub fn multiply_adds(parts: &[Part], side: usize) -> u64 {
    let mut side = side;
    parts
        .iter()
        .map(|part| {
            let here = part.multiply_adds(side);
            side = part.side(side);
            here
        })
        .sum()
}

/// Side of what neighbouring parts make of a side.
pub fn side_after(parts: &[Part], side: usize) -> usize {
    parts.iter().fold(side, |side, part| part.side(side))
}
