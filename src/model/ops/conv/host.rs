//! Convolution of maps in the order n, h, w, c on the processor, in f32 and on one thread: the bits depend on the shapes alone.
//!
//! A convolution of single pixels is one matrix product. Every other one gathers, for each pixel, what it sees through the taps of the kernel; so does
//! d loss / dx, whose pixels look back at d loss / dy.

use super::super::product::{Matrix, product};
use super::grid::{Class, Grid, Pixel, Shape, Tap};
use super::{tile, unfold};

/// How channels are grouped: those that are read and those that are written of each group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) groups: usize,
    pub(super) deep: usize,
    pub(super) wide: usize,
}

impl Sizes {
    fn forward(s: Shape) -> Self {
        Self { groups: s.groups, deep: s.deep(), wide: s.wide() }
    }
    fn backward(s: Shape) -> Self {
        Self { groups: s.groups, deep: s.wide(), wide: s.deep() }
    }

    /// Calls `f(place, group, tap, channel read, channel written)` for each weight in the order in which they are used.
    fn each(self, taps: &[Tap], mut f: impl FnMut(usize, usize, Tap, usize, usize)) {
        let block = if tile::fits(self) { tile::block(self) } else { self.wide };
        let mut place = 0;
        for group in 0..self.groups {
            for first in (0..self.wide).step_by(block) {
                for tap in taps {
                    for read in 0..self.deep {
                        for written in first..first + block {
                            f(place, group, *tap, read, written);
                            place += 1;
                        }
                    }
                }
            }
        }
    }

    fn gather(self, x: &[f32], y: &mut [f32], taps: &[Tap], pixels: &[Pixel], weights: &[f32]) {
        match tile::fits(self) {
            true => tile::gather(x, y, taps, pixels, weights, self),
            false => unfold::gather(x, y, taps, pixels, weights, self),
        }
    }

    fn products(self, x: &[f32], dy: &[f32], taps: &[Tap], pixels: &[Pixel], dw: &mut [f32]) {
        match tile::fits(self) {
            true => tile::products(x, dy, taps, pixels, dw, self),
            false => unfold::products(x, dy, taps, pixels, dw, self),
        }
    }
}

/// Where the weight of a kernel's value lies in `[output, input / groups, k, k]`.
fn at(s: Shape, group: usize, kernel: usize, input: usize, output: usize) -> usize {
    ((group * s.wide() + output) * s.deep() + input) * s.k * s.k + kernel
}

/// Writes the output `[n, h_out, w_out, output]` to `y`.
pub(super) fn forward(x: &[f32], weight: &[f32], y: &mut [f32], s: Shape) {
    if s.pointwise() {
        let shape = [s.n * s.h * s.w, s.output, s.input];
        return product(y, s.output, shape, Matrix(x, s.input, 1), Matrix(weight, 1, s.input), false);
    }
    let mut grid = Grid::new(s.images(), [s.h, s.w, s.input], s.pad());
    let (class, sizes) = (Class::forward(s, &grid), Sizes::forward(s));
    let mut weights = vec![0.0; weight.len()];
    sizes.each(&class.taps, |place, group, tap, input, output| weights[place] = weight[at(s, group, tap.kernel, input, output)]);
    for turn in s.turns() {
        let y = &mut y[turn.start * s.image_out()..turn.end * s.image_out()];
        let x = grid.around(&x[turn.start * s.image_in()..turn.end * s.image_in()]);
        sizes.gather(x, y, &class.taps, class.pixels(turn.len()), &weights);
    }
}

/// Writes d loss / dx `[n, h, w, input]` to `dx`.
pub(super) fn backward_input(weight: &[f32], dy: &[f32], dx: &mut [f32], s: Shape) {
    if s.pointwise() {
        let shape = [s.n * s.h * s.w, s.input, s.output];
        return product(dx, s.input, shape, Matrix(dy, s.output, 1), Matrix(weight, s.input, 1), false);
    }
    let mut grid = Grid::new(s.images(), [s.h_out(), s.w_out(), s.output], s.pad());
    let sizes = Sizes::backward(s);
    let classes: Vec<(Class, Vec<f32>)> = Class::backward(s, &grid)
        .into_iter()
        .map(|class| {
            let mut weights = vec![0.0; s.output * s.deep() * class.taps.len()];
            sizes.each(&class.taps, |place, group, tap, output, input| weights[place] = weight[at(s, group, tap.kernel, input, output)]);
            (class, weights)
        })
        .collect();
    if classes.iter().any(|(class, _)| class.taps.is_empty()) {
        // Nobody looks at some pixels.
        dx.fill(0.0);
    }
    for turn in s.turns() {
        let dx = &mut dx[turn.start * s.image_in()..turn.end * s.image_in()];
        let dy = grid.around(&dy[turn.start * s.image_out()..turn.end * s.image_out()]);
        for (class, weights) in &classes {
            sizes.gather(dy, dx, &class.taps, class.pixels(turn.len()), weights);
        }
    }
}

/// d loss / d weight: `[output, input / groups, k, k]`.
pub(super) fn backward_weight(x: &[f32], dy: &[f32], s: Shape) -> Vec<f32> {
    let mut dw = vec![0.0; s.output * s.deep() * s.k * s.k];
    if s.pointwise() {
        let shape = [s.output, s.input, s.n * s.h * s.w];
        product(&mut dw, s.input, shape, Matrix(dy, 1, s.output), Matrix(x, s.input, 1), false);
        return dw;
    }
    let mut grid = Grid::new(s.images(), [s.h, s.w, s.input], s.pad());
    let (class, sizes) = (Class::forward(s, &grid), Sizes::forward(s));
    let mut sums = vec![0.0; dw.len()];
    for turn in s.turns() {
        let dy = &dy[turn.start * s.image_out()..turn.end * s.image_out()];
        let x = grid.around(&x[turn.start * s.image_in()..turn.end * s.image_in()]);
        sizes.products(x, dy, &class.taps, class.pixels(turn.len()), &mut sums);
    }
    sizes.each(&class.taps, |place, group, tap, input, output| dw[at(s, group, tap.kernel, input, output)] = sums[place]);
    dw
}
