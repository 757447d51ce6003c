//! Loops of batch norm over f32 slices in NCHW order. Sums run in a fixed order, per channel in f64.

/// `[n, c, h·w]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dims {
    pub(super) n: usize,
    pub(super) c: usize,
    pub(super) hw: usize,
}

const WIDE: usize = 16;

/// Σ f(a) over a row, in [`WIDE`] interleaved partial sums.
#[inline(always)]
fn fold<const K: usize>(len: usize, f: impl Fn(usize) -> [f32; K]) -> [f32; K] {
    let mut wide = [[0.0f32; WIDE]; K];
    let whole = len / WIDE * WIDE;
    let mut at = 0;
    while at < whole {
        for j in 0..WIDE {
            let value = f(at + j);
            for k in 0..K {
                wide[k][j] += value[k];
            }
        }
        at += WIDE;
    }
    let mut sums = wide.map(|w| w.iter().sum::<f32>());
    for i in whole..len {
        let value = f(i);
        for k in 0..K {
            sums[k] += value[k];
        }
    }
    sums
}

/// Per channel sums of K numbers of each value; `f(channel, index)`.
#[inline(always)]
fn per_channel<const K: usize>(dims: Dims, f: impl Fn(usize, usize) -> [f32; K]) -> Vec<[f64; K]> {
    let Dims { n, c, hw } = dims;
    let mut sums = vec![[0.0f64; K]; c];
    for image in 0..n {
        for (channel, sum) in sums.iter_mut().enumerate() {
            let start = (image * c + channel) * hw;
            let row = fold(hw, |i| f(channel, start + i));
            for k in 0..K {
                sum[k] += f64::from(row[k]);
            }
        }
    }
    sums
}

/// Mean and sum of squared deviations of each channel: `[2, c]`. Two passes.
pub(super) fn moments(x: &[f32], dims: Dims) -> Vec<f32> {
    let count = (dims.n * dims.hw).max(1) as f64;
    let mean: Vec<f32> = per_channel(dims, |_, i| [x[i]]).iter().map(|[sum]| (sum / count) as f32).collect();
    let squares = per_channel(dims, |c, i| [(x[i] - mean[c]).powi(2)]);
    mean.iter().copied().chain(squares.iter().map(|[s]| *s as f32)).collect()
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
    let mut y = Vec::with_capacity(x.len());
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    rows(dims, |c, row| {
        let (a, b) = (a[c], b[c]);
        y.extend(x[row].iter().map(|x| {
            let y = x * a + b;
            if y < floor { floor } else { y }
        }));
    });
    y
}

/// Σ dy and Σ dy·x̂ per channel: `[2, c]`, where x̂ = (x − mean)·inv and dy counts where x·a + b is above the floor.
pub(super) fn gradient_sums(x: &[f32], dy: &[f32], dims: Dims, per: &PerChannel, relu: bool) -> Vec<f32> {
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let sums = per_channel(dims, |c, i| {
        let dy = if x[i] * per.a[c] + per.b[c] <= floor { 0.0 } else { dy[i] };
        [dy, dy * ((x[i] - per.mean[c]) * per.inv[c])]
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
    let mut dx = Vec::with_capacity(x.len());
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    rows(dims, |c, row| {
        let (a, b, mean, inv) = (per.a[c], per.b[c], per.mean[c], per.inv[c]);
        let (first, second) = (means[c], means[dims.c + c]);
        dx.extend(x[row.clone()].iter().zip(&dy[row]).map(|(x, dy)| {
            let dy = if x * a + b <= floor { 0.0 } else { *dy };
            a * (dy - first - (x - mean) * inv * second)
        }));
    });
    dx
}
