//! Loops of batch norm over f32 slices in NCHW order. Sums run in a fixed order, per channel in f64.

/// `[n, c, h·w]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dims {
    pub(super) n: usize,
    pub(super) c: usize,
    pub(super) hw: usize,
}

const WIDE: usize = 16;

/// Σ f(x, dy) over two rows of the same length, in [`WIDE`] interleaved partial sums.
#[inline(always)]
fn fold(x: &[f32], dy: &[f32], f: impl Fn(f32, f32) -> [f32; 2]) -> [f32; 2] {
    let (mut first, mut second) = ([0.0f32; WIDE], [0.0f32; WIDE]);
    let ((x, x_rest), (dy, dy_rest)) = (x.as_chunks::<WIDE>(), dy.as_chunks::<WIDE>());
    for (x, dy) in x.iter().zip(dy) {
        for j in 0..WIDE {
            let [a, b] = f(x[j], dy[j]);
            first[j] += a;
            second[j] += b;
        }
    }
    for (j, (x, dy)) in x_rest.iter().zip(dy_rest).enumerate() {
        let [a, b] = f(*x, *dy);
        first[j] += a;
        second[j] += b;
    }
    [first.iter().sum(), second.iter().sum()]
}

/// Per channel sums of two numbers of each pair of values; `f(channel, x, dy)`.
#[inline(always)]
fn per_channel(x: &[f32], dy: &[f32], dims: Dims, f: impl Fn(usize, f32, f32) -> [f32; 2]) -> Vec<[f64; 2]> {
    let mut sums = vec![[0.0f64; 2]; dims.c];
    rows(dims, |c, row| {
        let [a, b] = fold(&x[row.clone()], &dy[row], |x, dy| f(c, x, dy));
        sums[c][0] += f64::from(a);
        sums[c][1] += f64::from(b);
    });
    sums
}

/// Mean and sum of squared deviations of each channel: `[2, c]`. Two passes.
pub(super) fn moments(x: &[f32], dims: Dims) -> Vec<f32> {
    let count = (dims.n * dims.hw).max(1) as f64;
    let mean: Vec<f32> = per_channel(x, x, dims, |_, x, _| [x, 0.0]).iter().map(|s| (s[0] / count) as f32).collect();
    let squares = per_channel(x, x, dims, |c, x, _| [(x - mean[c]).powi(2), 0.0]);
    mean.iter().copied().chain(squares.iter().map(|s| s[0] as f32)).collect()
}

/// Calls `f(channel, range)` for each row of height × width.
#[inline(always)]
fn rows(dims: Dims, mut f: impl FnMut(usize, std::ops::Range<usize>)) {
    for row in 0..dims.n * dims.c {
        f(row % dims.c, row * dims.hw..(row + 1) * dims.hw);
    }
}

/// x·a + b per channel, below zero cut off when `relu` (NaN stays NaN).
pub(super) fn apply(x: &[f32], dims: Dims, a: &[f32], b: &[f32], relu: bool) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    rows(dims, |c, row| {
        let (a, b) = (a[c], b[c]);
        for (y, x) in y[row.clone()].iter_mut().zip(&x[row]) {
            let v = x * a + b;
            *y = if v < floor { floor } else { v };
        }
    });
    y
}

/// Σ dy and Σ dy·x̂ per channel: `[2, c]`, where x̂ = (x − mean)·inv and dy counts where x·a + b is above the floor.
pub(super) fn gradient_sums(x: &[f32], dy: &[f32], dims: Dims, per: &PerChannel, relu: bool) -> Vec<f32> {
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let sums = per_channel(x, dy, dims, |c, x, dy| {
        let dy = if x * per.a[c] + per.b[c] <= floor { 0.0 } else { dy };
        [dy, dy * ((x - per.mean[c]) * per.inv[c])]
    });
    sums.iter().map(|s| s[0] as f32).chain(sums.iter().map(|s| s[1] as f32)).collect()
}

/// What batch norm knows of each channel.
#[derive(Debug)]
pub(super) struct PerChannel {
    pub(super) mean: Vec<f32>,
    /// 1 / √(variance + ε).
    pub(super) inv: Vec<f32>,
    /// γ·inv.
    pub(super) a: Vec<f32>,
    /// β − mean·γ·inv.
    pub(super) b: Vec<f32>,
}

/// dx = a·(dy − mean(dy) − x̂·mean(dy·x̂)), the means per channel given as `[2, c]`.
pub(super) fn gradient(x: &[f32], dy: &[f32], dims: Dims, per: &PerChannel, means: &[f32], relu: bool) -> Vec<f32> {
    let mut dx = vec![0.0; x.len()];
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    rows(dims, |c, row| {
        let (a, b, mean, inv) = (per.a[c], per.b[c], per.mean[c], per.inv[c]);
        let (first, second) = (means[c], means[dims.c + c]);
        for ((dx, x), dy) in dx[row.clone()].iter_mut().zip(&x[row.clone()]).zip(&dy[row]) {
            let dy = if x * a + b <= floor { 0.0 } else { *dy };
            *dx = a * (dy - first - (x - mean) * inv * second);
        }
    });
    dx
}
