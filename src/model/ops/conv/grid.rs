//! Where the pixels of a convolution lie, in maps of the order n, h, w, c.

use std::ops::Range;

/// A convolution's sizes; padding is k / 2.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) n: usize,
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) k: usize,
    pub(super) stride: usize,
    pub(super) groups: usize,
}

/// Values of the images that are at work at a time: few enough for them to stay in the cache.
const VALUES: usize = 1 << 15;

impl Shape {
    pub(super) fn pad(&self) -> usize {
        self.k / 2
    }
    pub(super) fn h_out(&self) -> usize {
        (self.h + 2 * self.pad() - self.k) / self.stride + 1
    }
    pub(super) fn w_out(&self) -> usize {
        (self.w + 2 * self.pad() - self.k) / self.stride + 1
    }
    /// Input channels of a group.
    pub(super) fn deep(&self) -> usize {
        self.input / self.groups
    }
    /// Output channels of a group.
    pub(super) fn wide(&self) -> usize {
        self.output / self.groups
    }
    /// Whether pixels see nothing but themselves.
    pub(super) fn pointwise(&self) -> bool {
        self.k == 1 && self.stride == 1 && self.groups == 1
    }
    /// Of the output: `[n, c, h, w]`.
    pub(super) fn out(&self) -> [usize; 4] {
        [self.n, self.output, self.h_out(), self.w_out()]
    }
    /// Values of one input image.
    pub(super) fn image_in(&self) -> usize {
        self.input * self.h * self.w
    }
    /// Values of one output image.
    pub(super) fn image_out(&self) -> usize {
        self.output * self.h_out() * self.w_out()
    }
    /// The batch, some images at a time.
    pub(super) fn turns(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (n, images) = (self.n, self.images());
        (0..n).step_by(images).map(move |first| first..n.min(first + images))
    }
    /// Images of a turn.
    pub(super) fn images(&self) -> usize {
        (VALUES / self.image_in().max(self.image_out()).max(1)).clamp(1, self.n.max(1))
    }
}

/// Images with a border of zeros, so that every tap of every pixel lies inside.
pub(super) struct Grid {
    values: Vec<f32>,
    h: usize,
    w: usize,
    c: usize,
    pad: usize,
}

impl Grid {
    /// Room for `images` of `[h, w, c]`.
    pub(super) fn new(images: usize, [h, w, c]: [usize; 3], pad: usize) -> Self {
        let values = if pad == 0 { Vec::new() } else { vec![0.0; images * (h + 2 * pad) * (w + 2 * pad) * c] };
        Self { values, h, w, c, pad }
    }

    /// Values from one line to the next.
    fn line(&self) -> usize {
        (self.w + 2 * self.pad) * self.c
    }

    /// Values from one image to the next.
    fn image(&self) -> usize {
        (self.h + 2 * self.pad) * self.line()
    }

    /// `maps` with the border.
    pub(super) fn around<'a>(&'a mut self, maps: &'a [f32]) -> &'a [f32] {
        if self.pad == 0 {
            return maps;
        }
        let (line, image, row) = (self.line(), self.image(), self.w * self.c);
        for (at, from) in maps.chunks_exact(row).enumerate() {
            let to = at / self.h * image + (at % self.h + self.pad) * line + self.pad * self.c;
            self.values[to..to + row].copy_from_slice(from);
        }
        &self.values
    }
}

/// One value of the kernel: how far from a pixel's first tap it looks, in values, and its number ky · k + kx.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    pub(super) offset: usize,
    pub(super) kernel: usize,
}

/// Where a pixel's taps begin in the grid, and where its own values lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pixel {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// Pixels that look through the same taps.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) taps: Vec<Tap>,
    /// Those of a whole turn, image after image.
    pixels: Vec<Pixel>,
    each: usize,
}

impl Class {
    /// The pixels of `images` images.
    pub(super) fn pixels(&self, images: usize) -> &[Pixel] {
        &self.pixels[..images * self.each]
    }

    /// Output pixels, looking at the input through the whole kernel.
    pub(super) fn forward(s: Shape, grid: &Grid) -> Self {
        let (h, w) = (s.h_out(), s.w_out());
        let taps = (0..s.k * s.k).map(|kernel| Tap { offset: kernel / s.k * grid.line() + kernel % s.k * s.input, kernel }).collect();
        let pixel = |image, y, x| Pixel {
            from: image * grid.image() + y * s.stride * grid.line() + x * s.stride * s.input,
            to: ((image * h + y) * w + x) * s.output,
        };
        Self { taps, pixels: pixels(s.images(), 0..h, 0..w, 1, pixel), each: h * w }
    }

    /// Input pixels, looking at d loss / dy: with a stride neighbours are reached through different taps.
    pub(super) fn backward(s: Shape, grid: &Grid) -> Vec<Self> {
        let phases = (0..s.stride.min(s.h)).flat_map(|y| (0..s.stride.min(s.w)).map(move |x| (y, x)));
        phases.map(|(first_y, first_x)| Self::phase(s, grid, first_y, first_x)).collect()
    }

    fn phase(s: Shape, grid: &Grid, first_y: usize, first_x: usize) -> Self {
        // The output that sees position p through kernel offset k is (p + pad − k) / stride: `pad` more in the grid.
        let seen = |first: usize, k: usize| {
            let at = (first + s.pad() + s.pad() * s.stride).checked_sub(k)?;
            at.is_multiple_of(s.stride).then_some(at / s.stride)
        };
        let tap = |kernel: usize| {
            let (y, x) = (seen(first_y, kernel / s.k)?, seen(first_x, kernel % s.k)?);
            Some(Tap { offset: y * grid.line() + x * s.output, kernel })
        };
        let taps = (0..s.k * s.k).filter_map(tap).collect();
        let pixel = |image, y: usize, x: usize| Pixel {
            from: image * grid.image() + y / s.stride * grid.line() + x / s.stride * s.output,
            to: ((image * s.h + y) * s.w + x) * s.input,
        };
        let each = (first_y..s.h).step_by(s.stride).len() * (first_x..s.w).step_by(s.stride).len();
        Self { taps, pixels: pixels(s.images(), first_y..s.h, first_x..s.w, s.stride, pixel), each }
    }
}

fn pixels(images: usize, ys: Range<usize>, xs: Range<usize>, step: usize, pixel: impl Fn(usize, usize, usize) -> Pixel) -> Vec<Pixel> {
    let mut all = Vec::new();
    for image in 0..images {
        for y in ys.clone().step_by(step) {
            all.extend(xs.clone().step_by(step).map(|x| pixel(image, y, x)));
        }
    }
    all
}
