//! Convolution as matrix products over unfolded tiles of images, in f32 and on one thread: the bits depend on the
//! shapes alone.

use gemm::Parallelism;

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

/// Columns of a tile: enough for the matrix product to run well, few enough for the tile to stay in the cache.
const COLUMNS: usize = 512;

impl Shape {
    pub(super) fn h_out(&self) -> usize {
        (self.h + self.k / 2 * 2 - self.k) / self.stride + 1
    }
    pub(super) fn w_out(&self) -> usize {
        (self.w + self.k / 2 * 2 - self.k) / self.stride + 1
    }
    fn pixels_out(&self) -> usize {
        self.h_out() * self.w_out()
    }
    /// Input channels of a group.
    fn deep(&self) -> usize {
        self.input / self.groups
    }
    /// Output channels of a group.
    fn wide(&self) -> usize {
        self.output / self.groups
    }
    /// Rows of an unfolded tile.
    fn rows(&self) -> usize {
        self.deep() * self.k * self.k
    }
    /// Images of a tile.
    fn images(&self) -> usize {
        (COLUMNS / self.pixels_out().max(1)).clamp(1, self.n.max(1))
    }
    /// Whether unfolding changes nothing but the order of images and channels.
    fn pointwise(&self) -> bool {
        self.k == 1 && self.stride == 1
    }
    /// Calls `f(first image, images, group)` for each tile.
    fn tiles(&self, mut f: impl FnMut(usize, usize, usize)) {
        for first in (0..self.n).step_by(self.images()) {
            for group in 0..self.groups {
                f(first, self.images().min(self.n - first), group);
            }
        }
    }
    /// Output positions along an axis of `size` that see the input at kernel offset `at`.
    fn seen(&self, size: usize, out: usize, at: usize) -> std::ops::Range<usize> {
        let pad = self.k / 2;
        let first = pad.saturating_sub(at).div_ceil(self.stride);
        let end = (size + pad).saturating_sub(at).div_ceil(self.stride).min(out);
        first.min(end)..end
    }
}

/// A matrix in a slice: values, distance between rows, distance between columns.
#[derive(Clone, Copy)]
struct Matrix<'a>(&'a [f32], usize, usize);

/// out (m × n, row-major) = a (m × k) · b (k × n), added to what is there if `add`.
fn product(out: &mut [f32], [m, n, k]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, add: bool) {
    let last = |x: Matrix<'_>, rows: usize, columns: usize| (rows - 1) * x.1 + (columns - 1) * x.2 < x.0.len();
    assert!(m > 0 && n > 0 && k > 0 && m * n <= out.len() && last(a, m, k) && last(b, k, n), "matrices within their slices");
    // SAFETY: the assertion bounds every index that the strides reach, and `out` is borrowed alone.
    #[expect(unsafe_code, reason = "the library takes pointers")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.0.as_ptr(),
            a.2 as isize,
            a.1 as isize,
            b.0.as_ptr(),
            b.2 as isize,
            b.1 as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Rows of a group's channels of `images` images side by side: `tile[channel][image][pixel]` from or to `[n, c, pixels]`.
fn strips(shape: [usize; 2], first: usize, images: usize, channels: std::ops::Range<usize>, mut f: impl FnMut(usize, usize)) {
    let [c, pixels] = shape;
    for (row, channel) in channels.enumerate() {
        for image in 0..images {
            f((row * images + image) * pixels, ((first + image) * c + channel) * pixels);
        }
    }
}

/// Unfolds a tile: `cols[row][image][pixel]` where a row is (channel, kernel y, kernel x).
fn unfold(x: &[f32], s: Shape, first: usize, images: usize, group: usize, cols: &mut [f32]) {
    if s.pointwise() {
        let pixels = s.h * s.w;
        strips([s.input, pixels], first, images, group * s.deep()..(group + 1) * s.deep(), |to, from| {
            cols[to..to + pixels].copy_from_slice(&x[from..from + pixels]);
        });
        return;
    }
    cols.fill(0.0);
    walk(s, first, images, group, |from, to, count| {
        let source = x[from..].iter().step_by(s.stride);
        cols[to..to + count].iter_mut().zip(source).for_each(|(c, x)| *c = *x);
    });
}

/// Adds an unfolded tile back to where its values came from.
fn fold(cols: &[f32], s: Shape, first: usize, images: usize, group: usize, dx: &mut [f32]) {
    if s.pointwise() {
        let pixels = s.h * s.w;
        strips([s.input, pixels], first, images, group * s.deep()..(group + 1) * s.deep(), |from, to| {
            dx[to..to + pixels].copy_from_slice(&cols[from..from + pixels]);
        });
        return;
    }
    walk(s, first, images, group, |to, from, count| {
        let target = dx[to..].iter_mut().step_by(s.stride);
        cols[from..from + count].iter().zip(target).for_each(|(c, x)| *x += *c);
    });
}

/// Calls `f(index in x, index in cols, count)` for each run of output pixels of one line that see the input.
#[inline(always)]
fn walk(s: Shape, first: usize, images: usize, group: usize, mut f: impl FnMut(usize, usize, usize)) {
    let (h_out, w_out, pad) = (s.h_out(), s.w_out(), s.k / 2);
    let mut row = 0;
    for channel in group * s.deep()..(group + 1) * s.deep() {
        for ky in 0..s.k {
            let lines = s.seen(s.h, h_out, ky);
            for kx in 0..s.k {
                let run = s.seen(s.w, w_out, kx);
                for image in 0..images {
                    let plane = ((first + image) * s.input + channel) * s.h;
                    let to = (row * images + image) * h_out;
                    for line in lines.clone() {
                        if !run.is_empty() {
                            let from = (plane + line * s.stride + ky - pad) * s.w + run.start * s.stride + kx - pad;
                            f(from, (to + line) * w_out + run.start, run.len());
                        }
                    }
                }
                row += 1;
            }
        }
    }
}

/// The output `[n, output, h_out, w_out]`.
pub(super) fn forward(x: &[f32], weight: &[f32], s: Shape) -> Vec<f32> {
    let (rows, wide, pixels) = (s.rows(), s.wide(), s.pixels_out());
    let mut y = vec![0.0; s.n * s.output * pixels];
    let mut cols = vec![0.0; rows * s.images() * pixels];
    let mut out = vec![0.0; wide * s.images() * pixels];
    s.tiles(|first, images, group| {
        let n = images * pixels;
        let cols = &mut cols[..rows * n];
        unfold(x, s, first, images, group, cols);
        let weight = Matrix(&weight[group * wide * rows..(group + 1) * wide * rows], rows, 1);
        product(&mut out, [wide, n, rows], weight, Matrix(cols, n, 1), false);
        strips([s.output, pixels], first, images, group * wide..(group + 1) * wide, |from, to| {
            y[to..to + pixels].copy_from_slice(&out[from..from + pixels]);
        });
    });
    y
}

/// A tile of d loss / dy: `[channel][image][pixel]`.
fn take(dy: &[f32], s: Shape, first: usize, images: usize, group: usize, tile: &mut [f32]) {
    let pixels = s.pixels_out();
    strips([s.output, pixels], first, images, group * s.wide()..(group + 1) * s.wide(), |to, from| {
        tile[to..to + pixels].copy_from_slice(&dy[from..from + pixels]);
    });
}

/// d loss / dx: `[n, input, h, w]`.
pub(super) fn backward_input(weight: &[f32], dy: &[f32], s: Shape) -> Vec<f32> {
    let (rows, wide, pixels) = (s.rows(), s.wide(), s.pixels_out());
    let mut dx = vec![0.0; s.n * s.input * s.h * s.w];
    let mut cols = vec![0.0; rows * s.images() * pixels];
    let mut tile = vec![0.0; wide * s.images() * pixels];
    s.tiles(|first, images, group| {
        let n = images * pixels;
        take(dy, s, first, images, group, &mut tile);
        let weight = Matrix(&weight[group * wide * rows..(group + 1) * wide * rows], 1, rows);
        product(&mut cols, [rows, n, wide], weight, Matrix(&tile[..wide * n], n, 1), false);
        fold(&cols[..rows * n], s, first, images, group, &mut dx);
    });
    dx
}

/// d loss / d weight: `[output, input / groups, k, k]`.
pub(super) fn backward_weight(x: &[f32], dy: &[f32], s: Shape) -> Vec<f32> {
    let (rows, wide, pixels) = (s.rows(), s.wide(), s.pixels_out());
    let mut dw = vec![0.0; s.output * rows];
    let mut cols = vec![0.0; rows * s.images() * pixels];
    let mut tile = vec![0.0; wide * s.images() * pixels];
    s.tiles(|first, images, group| {
        let n = images * pixels;
        let cols = &mut cols[..rows * n];
        unfold(x, s, first, images, group, cols);
        take(dy, s, first, images, group, &mut tile);
        let dw = &mut dw[group * wide * rows..(group + 1) * wide * rows];
        product(dw, [wide, rows, n], Matrix(&tile[..wide * n], n, 1), Matrix(cols, 1, n), true);
    });
    dw
}
