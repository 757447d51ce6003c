//! Draws the description of one image (class, region, pose, colours, background, light) from the seed.

use std::f32::consts::TAU;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use super::Split;
use super::field::Field;
use super::shape::{CLASSES, Form};

/// Regions, in order; each shifts the palette of the background and the light.
pub const REGIONS: [&str; 4] = ["north", "east", "south", "west"];
/// Kinds of background.
pub const BACKGROUNDS: [&str; 4] = ["gradient", "clouds", "stripes", "clutter"];
/// Kinds of light: intensity and tint come from the region, its spread from the kind.
pub const LIGHTS: [&str; 3] = ["soft", "side", "hard"];

/// Share of a class's images that come from its home region (`label % 4`); the other three share the rest evenly.
pub const HOME_SHARE: f64 = 0.5;

/// What is known of an image beside its class; the sidecar holds it as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Class name, one of [`CLASSES`].
    pub class: String,
    /// One of [`REGIONS`].
    pub region: String,
    /// One of [`BACKGROUNDS`].
    pub background: String,
    /// One of [`LIGHTS`].
    pub light: String,
}

/// A soft spot of colour in the clutter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blob {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) radius: f32,
    pub(super) hue: f32,
    pub(super) luma: f32,
}

/// All that a pixel's colour depends on. The frame spans [-1, 1] both ways; hues are in turns.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) form: Form,
    pub(super) region: usize,
    pub(super) background: usize,
    pub(super) light: usize,
    pub(super) center: [f32; 2],
    /// Frame to object coordinates, before the perspective division.
    pub(super) to_object: [[f32; 2]; 2],
    pub(super) perspective: [f32; 2],
    /// Hue in the middle of the frame of the object's first colour; the second is its complement.
    pub(super) hue: f32,
    /// How the hues turn over the frame.
    pub(super) ramp: [f32; 2],
    /// Brightness of the object's two colours.
    pub(super) lumas: [f32; 2],
    pub(super) ground_hue: f32,
    pub(super) ground_luma: f32,
    pub(super) ground_contrast: f32,
    pub(super) ground_direction: [f32; 2],
    pub(super) ground_cycles: f32,
    pub(super) blobs: Vec<Blob>,
    pub(super) field: Field,
    pub(super) light_direction: [f32; 2],
    pub(super) light_slope: f32,
    pub(super) tint: [f32; 3],
    pub(super) shadow: f32,
}

/// The random stream of one purpose (`kind`) and number.
fn stream(seed: u64, split: Split, kind: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((split as u64) << 62 | kind << 60 | number);
    rng
}

/// A uniform draw from [low, high).
fn uniform(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * ((rng.next_u32() >> 8) as f32 / (1 << 24) as f32)
}

fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize
}

/// The label of an image: every run of ten images from a multiple of ten holds each class once, in random order.
pub(super) fn label(seed: u64, split: Split, index: usize) -> usize {
    let n = CLASSES.len();
    let mut rng = stream(seed, split, 1, (index / n) as u64);
    let mut order: [usize; CLASSES.len()] = std::array::from_fn(|i| i);
    for i in (1..n).rev() {
        order.swap(i, below(&mut rng, i + 1));
    }
    order[index % n]
}

fn region(rng: &mut ChaCha8Rng, label: usize) -> usize {
    let home = label % REGIONS.len();
    if f64::from(uniform(rng, 0.0, 1.0)) < HOME_SHARE {
        return home;
    }
    (home + 1 + below(rng, REGIONS.len() - 1)) % REGIONS.len()
}

impl Scene {
    /// The scene of image `index` of a split.
    pub(super) fn draw(seed: u64, split: Split, index: usize) -> Self {
        let class = label(seed, split, index);
        let rng = &mut stream(seed, split, 0, index as u64);
        let region = region(rng, class);
        let background = below(rng, BACKGROUNDS.len());
        let light = below(rng, LIGHTS.len());

        let scale = uniform(rng, 1.1, 1.5);
        let turn = uniform(rng, 0.0, TAU);
        let (stretch, shear) = (uniform(rng, 0.85, 1.18), uniform(rng, -0.18, 0.18));
        let mirror = if below(rng, 2) == 0 { 1.0 } else { -1.0 };
        let (sin, cos) = turn.sin_cos();
        // Rotation, then shear and stretch along the object's axes, over the scale.
        let to_object = [
            [mirror * (cos + shear * sin) * stretch / scale, mirror * (sin - shear * cos) * stretch / scale],
            [-sin / stretch / scale, cos / stretch / scale],
        ];
        let middle = uniform(rng, 0.48, 0.52);
        let half = uniform(rng, 0.3, 0.38);
        let warmth = [[0.98, 0.99, 1.02], [1.0, 1.01, 0.99], [1.02, 1.0, 0.98], [1.01, 0.99, 1.01]][region];
        let power = [0.96, 0.99, 1.03, 1.01][region] * uniform(rng, 0.95, 1.05);
        let toward = uniform(rng, 0.0, TAU);
        let across = uniform(rng, 0.0, TAU);
        let along = uniform(rng, 0.0, TAU);
        let blobs = if background == 3 { 4 + below(rng, 6) } else { 0 };
        Self {
            form: Form { class, frequency: uniform(rng, 0.86, 1.14), phase: uniform(rng, 0.0, 1.0) },
            region,
            background,
            light,
            center: [uniform(rng, -0.7, 0.7), uniform(rng, -0.7, 0.7)],
            to_object,
            perspective: [uniform(rng, -0.16, 0.16), uniform(rng, -0.16, 0.16)],
            hue: uniform(rng, 0.0, 1.0),
            ramp: [0.5 * across.cos(), 0.5 * across.sin()],
            lumas: [middle + half, middle - half],
            ground_hue: [0.58, 0.36, 0.08, 0.83][region] + uniform(rng, -0.25, 0.25),
            ground_luma: [0.47, 0.5, 0.53, 0.5][region] + uniform(rng, -0.04, 0.04),
            ground_contrast: uniform(rng, 0.12, 0.2),
            ground_direction: [along.cos(), along.sin()],
            ground_cycles: uniform(rng, 0.8, 2.2),
            blobs: (0..blobs)
                .map(|_| Blob {
                    x: uniform(rng, -1.1, 1.1),
                    y: uniform(rng, -1.1, 1.1),
                    radius: uniform(rng, 0.12, 0.45),
                    hue: uniform(rng, 0.0, 1.0),
                    luma: uniform(rng, 0.35, 0.65),
                })
                .collect(),
            field: Field(rng.next_u32()),
            light_direction: [toward.cos(), toward.sin()],
            light_slope: [0.1, 0.22, 0.34][light],
            tint: warmth.map(|w: f32| w * power),
            shadow: [0.15, 0.35, 0.55][light],
        }
    }

    /// The sidecar of the image.
    pub(super) fn attributes(&self) -> Attributes {
        Attributes {
            class: CLASSES[self.form.class].into(),
            region: REGIONS[self.region].into(),
            background: BACKGROUNDS[self.background].into(),
            light: LIGHTS[self.light].into(),
        }
    }
}
