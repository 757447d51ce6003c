//! The ten classes: an outline and a pattern each, as functions of a point in the object's own coordinates (outline within about ±1).

use std::f32::consts::{PI, TAU};

/// Class names, in label order.
pub const CLASSES: [&str; 10] = ["ring", "star", "stripes", "checker", "dots", "spiral", "wheel", "leaf", "snowflake", "cross"];

/// How much more of the first colour than of the second an object shows, by class. Small, so that colours tell little of the class; but an
/// agreement between crops that is found at once, without which SwAV stays at ln K.
const LEAN: [f32; 10] = [0.1, 0.0, 0.1, -0.1, -0.3, 0.2, 0.3, 0.0, -0.25, -0.1];

/// What varies between two objects of one class apart from pose and colour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Label, below `CLASSES.len()`.
    pub(super) class: usize,
    /// Multiplies the number of repeats of the pattern, around 1.
    pub(super) frequency: f32,
    /// Shift of the pattern, in turns.
    pub(super) phase: f32,
}

impl Form {
    /// Signed distance to the outline in object units, negative inside; exact only near the edge.
    pub(super) fn outline(&self, x: f32, y: f32) -> f32 {
        match self.class {
            1 => star(x, y),
            3 => triangle(x, y),
            4 => x.abs().max(y.abs()) - 0.85,
            7 => (x.abs() + 0.35).hypot(y) - 1.06,
            8 => sector(y, x, 6.0).0 - 0.92,
            9 => cross(x, y),
            _ => x.hypot(y) - 1.0,
        }
    }

    /// The pattern's value at a point with signed distance `d` to the outline, in [-1, 1]: positive where the first of the object's two
    /// colours goes; about 0.6 crosses an edge softly.
    ///
    /// Each pattern fills the object and repeats at a pace of its own, so that crops of an image agree in it, and lies where phase, pose and
    /// bend put it, so that two objects of a class hardly agree pixel by pixel.
    pub(super) fn pattern(&self, x: f32, y: f32, d: f32) -> f32 {
        let wave = |cycles: f32| (TAU * (cycles * self.frequency + self.phase)).sin();
        let value = match self.class {
            0 => wave(2.6 * d),
            1 => wave(4.8 * d),
            2 => wave(5.4 * x),
            3 => 2.0 * wave(2.3 * x) * (TAU * (2.3 * y * self.frequency + 0.3)).sin(),
            4 => dots(x * self.frequency + self.phase, y * self.frequency),
            5 => (3.0 * y.atan2(x) + TAU * (1.2 * self.frequency * (d + 1.0) + self.phase)).sin(),
            6 => 1.2 * (if self.frequency < 1.0 { 9.0 } else { 11.0 } * y.atan2(x) + TAU * self.phase).sin(),
            7 => wave(4.2 * (y + 0.9 * x.abs())),
            8 => snowflake(x, y, wave),
            _ => wave(3.4 * d),
        };
        (value + LEAN[self.class]).clamp(-1.0, 1.0)
    }
}

/// Folds the plane into one of `n` equal sectors, mirrored about its middle line: the result has x along that line and y >= 0.
fn sector(x: f32, y: f32, n: f32) -> (f32, f32) {
    let width = TAU / n;
    let angle = y.atan2(x);
    let a = angle - width * (angle / width).round();
    let r = x.hypot(y);
    (r * a.cos(), r * a.sin().abs())
}

fn star(x: f32, y: f32) -> f32 {
    // The tip lies on the sector's middle line at 1.1, the notch on its border at 0.55.
    let (qx, qy) = sector(x, y, 5.0);
    let (nx, ny) = (0.55 * (PI / 5.0).cos(), 0.55 * (PI / 5.0).sin());
    let (ex, ey) = (nx - 1.1, ny);
    ((qx - 1.1) * ey - qy * ex) / ex.hypot(ey)
}

fn triangle(x: f32, y: f32) -> f32 {
    let (qx, _) = sector(x, y, 3.0);
    // The long corners are cut round so that the area stays near that of the other outlines.
    (qx - 0.68).max(x.hypot(y) - 1.12)
}

fn dots(x: f32, y: f32) -> f32 {
    const CELL: f32 = 0.24;
    let row = (y / CELL).floor();
    let shift = if row.rem_euclid(2.0) < 1.0 { 0.0 } else { 0.5 };
    let u = (x / CELL + shift).rem_euclid(1.0) - 0.5;
    let v = (y / CELL).rem_euclid(1.0) - 0.5;
    (0.4 - u.hypot(v)) * 6.0
}

/// Twigs that leave six branches.
fn snowflake(x: f32, y: f32, wave: impl Fn(f32) -> f32) -> f32 {
    let (qx, qy) = sector(x, y, 6.0);
    wave(4.7 * (qx - 1.2 * qy))
}

fn cross(x: f32, y: f32) -> f32 {
    let (a, b) = (x.abs().max(y.abs()), x.abs().min(y.abs()));
    (a - 1.0).max(b - 0.42)
}
