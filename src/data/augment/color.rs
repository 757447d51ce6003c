//! Changes of colour on three planes of f32 in 0..=255.
//!
//! The formulas are torchvision's for float images; nothing is rounded to whole values between the changes. Loops
//! are free of branches so that the compiler vectorises them, and run over bands of pixels that stay in the first-level cache.

use crate::data::augment::draw::ColorOp;

/// Pixels of a band.
const BAND: usize = 1024;

/// Luma weights of ITU-R BT.601, as Pillow and torchvision use them.
const RED: f32 = 0.299;
const GREEN: f32 = 0.587;
const BLUE: f32 = 0.114;

/// Applies the changes in order to the three planes of equal length.
pub fn apply(ops: &[ColorOp], planes: [&mut [f32]; 3]) {
    let [r, g, b] = planes;
    let mut ops = ops;
    // Contrast needs the mean over all that came before it: it ends a sweep over the planes.
    while !ops.is_empty() {
        let until = ops.iter().position(|op| matches!(op, ColorOp::Contrast(_)));
        let (now, contrast) = ops.split_at(until.unwrap_or(ops.len()));
        let mut sum = 0f64;
        for ((r, g), b) in r.chunks_mut(BAND).zip(g.chunks_mut(BAND)).zip(b.chunks_mut(BAND)) {
            now.iter().for_each(|op| apply_band(op, r, g, b));
            if !contrast.is_empty() {
                sum += f64::from(gray_sum(r, g, b));
            }
        }
        if let [ColorOp::Contrast(factor), ..] = contrast {
            let mean = (sum / r.len().max(1) as f64) as f32;
            [&mut *r, &mut *g, &mut *b].into_iter().for_each(|plane| blend_constant(plane, *factor, mean));
        }
        ops = contrast.get(1..).unwrap_or(&[]);
    }
}

fn apply_band(op: &ColorOp, r: &mut [f32], g: &mut [f32], b: &mut [f32]) {
    match *op {
        ColorOp::Brightness(factor) => [r, g, b].into_iter().for_each(|plane| blend_constant(plane, factor, 0.0)),
        ColorOp::Saturation(factor) => saturate(r, g, b, factor),
        ColorOp::Hue(turn) => turn_hue(r, g, b, turn),
        ColorOp::Grayscale => saturate(r, g, b, 0.0),
        ColorOp::Contrast(_) => unreachable!("contrast ends a sweep"),
    }
}

#[inline(always)]
fn clamp(value: f32) -> f32 {
    // Comparisons instead of f32::clamp: its care for NaN costs instructions.
    let low = if value > 0.0 { value } else { 0.0 };
    if low < 255.0 { low } else { 255.0 }
}

fn blend_constant(plane: &mut [f32], factor: f32, constant: f32) {
    let offset = (1.0 - factor) * constant;
    plane.iter_mut().for_each(|value| *value = clamp(*value * factor + offset));
}

fn saturate(r: &mut [f32], g: &mut [f32], b: &mut [f32], factor: f32) {
    let rest = 1.0 - factor;
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let gray = (RED * *r + GREEN * *g + BLUE * *b) * rest;
        *r = clamp(*r * factor + gray);
        *g = clamp(*g * factor + gray);
        *b = clamp(*b * factor + gray);
    }
}

/// Sum of the gray values of a band, in a fixed order over 16 partial sums.
fn gray_sum(r: &[f32], g: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for ((r, g), b) in r.chunks(16).zip(g.chunks(16)).zip(b.chunks(16)) {
        for (((sum, r), g), b) in sums.iter_mut().zip(r).zip(g).zip(b) {
            *sum += RED * r + GREEN * g + BLUE * b;
        }
    }
    sums.iter().sum()
}

/// Turns the hue in HSV. Back from HSV a channel is `v − c · clamp(min(k, 4 − k), 0, 1)` with
/// `k = (n + 6h) mod 6` and n = 5, 3, 1 for red, green, blue: no case distinction over sectors.
fn turn_hue(r: &mut [f32], g: &mut [f32], b: &mut [f32], turn: f32) {
    let shift = turn * 6.0;
    for ((red, green), blue) in r.iter_mut().zip(g).zip(b) {
        let (r, g, b) = (*red, *green, *blue);
        let value = if r > g { r } else { g };
        let value = if value > b { value } else { b };
        let least = if r < g { r } else { g };
        let least = if least < b { least } else { b };
        let chroma = value - least;
        let (difference, sector) = if value == r {
            (g - b, 0.0)
        } else if value == g {
            (b - r, 2.0)
        } else {
            (r - g, 4.0)
        };
        // Gray has no hue: any finite number will do, as it is multiplied by a chroma of 0.
        let divisor = if chroma > 1e-6 { chroma } else { 1.0 };
        // In −1..5, moved by −3..3: one turn back or forth brings it into 0..6.
        let hue = difference / divisor + sector + shift;
        let hue = if hue < 0.0 { hue + 6.0 } else { hue };
        let hue = if hue < 6.0 { hue } else { hue - 6.0 };
        let channel = |n: f32| {
            let k = hue + n;
            let k = if k < 6.0 { k } else { k - 6.0 };
            let down = 4.0 - k;
            let t = if k < down { k } else { down };
            let t = if t > 0.0 { t } else { 0.0 };
            let t = if t < 1.0 { t } else { 1.0 };
            value - chroma * t
        };
        (*red, *green, *blue) = (channel(5.0), channel(3.0), channel(1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(ops: &[ColorOp], pixel: [f32; 3]) -> [f32; 3] {
        let [mut r, mut g, mut b] = pixel.map(|v| vec![v]);
        apply(ops, [&mut r, &mut g, &mut b]);
        [r[0], g[0], b[0]]
    }

    fn close(a: [f32; 3], b: [f32; 3]) {
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.01), "{a:?} instead of {b:?}");
    }

    #[test]
    fn known_colours() {
        close(one(&[ColorOp::Brightness(1.5)], [100.0, 200.0, 0.0]), [150.0, 255.0, 0.0]);
        close(one(&[ColorOp::Grayscale], [255.0, 0.0, 0.0]), [76.245; 3]);
        close(one(&[ColorOp::Saturation(0.5)], [255.0, 0.0, 0.0]), [165.6225, 38.1225, 38.1225]);
        close(one(&[ColorOp::Hue(1.0 / 3.0)], [255.0, 0.0, 0.0]), [0.0, 255.0, 0.0]);
        close(one(&[ColorOp::Hue(-1.0 / 3.0)], [255.0, 0.0, 0.0]), [0.0, 0.0, 255.0]);
        close(one(&[ColorOp::Hue(0.5)], [200.0, 100.0, 50.0]), [50.0, 150.0, 200.0]);
        close(one(&[ColorOp::Hue(0.3)], [77.0; 3]), [77.0; 3]);
    }

    #[test]
    fn turning_the_hue_agrees_with_hsv_by_cases() {
        // The textbook conversion, colour by colour.
        let reference = |[r, g, b]: [f32; 3], turn: f32| {
            let (v, m) = (r.max(g).max(b), r.min(g).min(b));
            let c = v - m;
            let h = match () {
                () if c == 0.0 => 0.0,
                () if v == r => (g - b) / c,
                () if v == g => (b - r) / c + 2.0,
                () => (r - g) / c + 4.0,
            };
            let h = (h / 6.0 + turn).rem_euclid(1.0) * 6.0;
            let (i, f) = (h.floor(), h - h.floor());
            let (p, q, t) = (m, v - c * f, v - c * (1.0 - f));
            match i as u32 % 6 {
                0 => [v, t, p],
                1 => [q, v, p],
                2 => [p, v, t],
                3 => [p, q, v],
                4 => [t, p, v],
                _ => [v, p, q],
            }
        };
        for i in 0..4000u32 {
            let pixel = [i * 37 % 256, i * 101 % 256, i * 211 % 256].map(|v| v as f32);
            let turn = (i % 101) as f32 / 100.0 - 0.5;
            close(one(&[ColorOp::Hue(turn)], pixel), reference(pixel, turn));
        }
    }

    #[test]
    fn contrast_uses_the_mean_of_what_came_before_it() {
        let n = 3000;
        let mut planes = [0, 1, 2].map(|c| (0..n).map(|i| ((i * (c + 3)) % 251) as f32).collect::<Vec<f32>>());
        let mut expected = planes.clone();
        let [r, g, b] = &mut planes;
        apply(&[ColorOp::Brightness(0.5), ColorOp::Contrast(0.25), ColorOp::Saturation(1.5)], [r, g, b]);
        expected.iter_mut().flatten().for_each(|v| *v *= 0.5);
        let mean = (0..n).map(|i| f64::from(RED * expected[0][i] + GREEN * expected[1][i] + BLUE * expected[2][i])).sum::<f64>() / n as f64;
        expected.iter_mut().flatten().for_each(|v| *v = *v * 0.25 + 0.75 * mean as f32);
        for i in 0..n {
            let pixel = [expected[0][i], expected[1][i], expected[2][i]];
            close([planes[0][i], planes[1][i], planes[2][i]], one(&[ColorOp::Saturation(1.5)], pixel));
        }
    }
}
