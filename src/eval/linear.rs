//! Linear probe: one linear layer on frozen, standardised features.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use super::matmul::{View, product};
use super::{EvalError, Features, accuracy, check};
use crate::simd::vectorised;
use crate::swav::math::{exp, max, total};

/// How the layer is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Learning rates to try, each from the same start; the best is reported.
    pub rates: Vec<f32>,
    /// Passes over the train set; the rate falls by half a cosine over them.
    pub epochs: u32,
    /// Images a step.
    pub batch: usize,
    /// Momentum of SGD.
    pub momentum: f32,
    /// Seed of the first weights and of the order of images.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rates: vec![0.003, 0.01, 0.03, 0.1], epochs: 30, batch: 256, momentum: 0.9, seed: 0 }
    }
}

/// What a probe gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Test images classified rightly by the best layer, in percent. Best of the rates *on the test set*, as papers report it.
    pub top1: f64,
    /// The rate of the best layer; the first of equals.
    pub rate: f32,
    /// Each rate with its figure.
    pub tried: Vec<(f32, f64)>,
    /// Passes over the train set.
    pub epochs: u32,
    /// Train images.
    pub train: usize,
    /// Test images.
    pub test: usize,
    /// Classes of the train set.
    pub classes: usize,
}

/// Trains a layer for each rate, spread over `threads` threads; the result is the same for any number of them.
///
/// # Errors
/// [`EvalError`] when the sets are empty, of odd shape or not finite, or a setting is out of range.
pub fn linear(train: Features<'_>, test: Features<'_>, settings: &Settings, threads: usize) -> Result<Linear, EvalError> {
    let classes = check(&train, &test)?;
    if settings.rates.is_empty() || settings.rates.iter().any(|rate| !(rate.is_finite() && *rate > 0.0)) {
        return Err(EvalError::Setting { key: "rates", want: "one learning rate above 0 at least" });
    }
    if settings.batch == 0 {
        return Err(EvalError::Setting { key: "batch", want: "1 or more" });
    }
    if !(0.0..1.0).contains(&settings.momentum) {
        return Err(EvalError::Setting { key: "momentum", want: "0 or above and below 1" });
    }
    let (bank, queries) = standardised(&train, &test);
    let bank = Features { values: &bank, ..train };
    let figure = |rate: f32| {
        let layer = Layer::train(bank, classes, rate, settings);
        (rate, accuracy(&layer.classify(&queries), test.labels))
    };
    let share = settings.rates.len().div_ceil(threads.max(1));
    let tried: Vec<(f32, f64)> = std::thread::scope(|scope| {
        let figures = |rates: &[f32]| rates.iter().map(|rate| figure(*rate)).collect::<Vec<_>>();
        let parts: Vec<_> = settings.rates.chunks(share).map(|rates| scope.spawn(move || figures(rates))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let (rate, top1) = tried.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap_or_default();
    Ok(Linear { top1, rate, tried, epochs: settings.epochs, train: train.labels.len(), test: test.labels.len(), classes })
}

/// Both sets with the train set's mean and (unbiased) deviation taken out of each feature.
fn standardised(train: &Features<'_>, test: &Features<'_>) -> (Vec<f32>, Vec<f32>) {
    let (dim, count) = (train.dim, train.labels.len() as f64);
    let mut mean = vec![0.0f64; dim];
    let mut spread = vec![0.0f64; dim];
    for row in train.values.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / count);
    }
    for row in train.values.chunks_exact(dim) {
        spread.iter_mut().zip(row).zip(&mean).for_each(|((s, v), m)| *s += (f64::from(*v) - m).powi(2));
    }
    let scale: Vec<f64> = spread.iter().map(|s| 1.0 / ((s / (count - 1.0).max(1.0)).sqrt() + 1e-6)).collect();
    let apply = |values: &[f32]| {
        let rows = values.chunks_exact(dim);
        rows.flat_map(|row| row.iter().zip(&mean).zip(&scale).map(|((v, m), s)| ((f64::from(*v) - m) * s) as f32)).collect()
    };
    (apply(train.values), apply(test.values))
}

struct Layer {
    dim: usize,
    classes: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Layer {
    /// Weights and biases uniform within ± 1 / √dim (PyTorch's linear layer).
    fn new(dim: usize, classes: usize, random: &mut ChaCha8Rng) -> Self {
        let bound = 1.0 / (dim as f32).sqrt();
        let mut draw = |count: usize| (0..count).map(|_| bound * (2.0 * (random.next_u32() >> 8) as f32 / 16_777_216.0 - 1.0)).collect();
        Self { dim, classes, weight: draw(classes * dim), bias: draw(classes) }
    }

    fn train(bank: Features<'_>, classes: usize, rate: f32, settings: &Settings) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut layer = Self::new(bank.dim, classes, &mut random);
        let mut momentum = vec![0.0; layer.weight.len() + classes];
        let mut order: Vec<usize> = (0..bank.labels.len()).collect();
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for epoch in 0..settings.epochs {
            let phase = f64::from(epoch) / f64::from(settings.epochs);
            let rate = rate * (0.5 * (1.0 + (std::f64::consts::PI * phase).cos())) as f32;
            shuffle(&mut order, &mut random);
            for batch in order.chunks(settings.batch) {
                images.clear();
                labels.clear();
                for image in batch {
                    images.extend_from_slice(&bank.values[image * bank.dim..(image + 1) * bank.dim]);
                    labels.push(bank.labels[*image]);
                }
                layer.step(&images, &labels, rate, settings.momentum, &mut momentum);
            }
        }
        layer
    }

    fn step(&mut self, images: &[f32], labels: &[u32], rate: f32, keep: f32, momentum: &mut [f32]) {
        let mut errors = self.logits(images);
        vectorised(
            #[inline(always)]
            || softmax_minus_truth(&mut errors, self.classes, labels),
        );
        let (errors_view, images_view) = (View::new(&errors, labels.len(), self.classes), View::new(images, labels.len(), self.dim));
        let mut slope = vec![0.0; self.weight.len()];
        product(&mut slope, errors_view.transposed(), images_view);
        let mut bias_slope = vec![0.0; self.classes];
        for row in errors.chunks_exact(self.classes) {
            bias_slope.iter_mut().zip(row).for_each(|(s, e)| *s += e);
        }
        let values = self.weight.iter_mut().chain(&mut self.bias);
        for ((value, m), slope) in values.zip(momentum).zip(slope.iter().chain(&bias_slope)) {
            *m = keep * *m + slope;
            *value -= rate * *m;
        }
    }

    fn logits(&self, images: &[f32]) -> Vec<f32> {
        let count = images.len() / self.dim;
        let mut logits = vec![0.0; count * self.classes];
        product(&mut logits, View::new(images, count, self.dim), View::new(&self.weight, self.classes, self.dim).transposed());
        for row in logits.chunks_exact_mut(self.classes) {
            row.iter_mut().zip(&self.bias).for_each(|(l, b)| *l += b);
        }
        logits
    }

    fn classify(&self, images: &[f32]) -> Vec<u32> {
        let first_best = |row: &[f32]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u32;
        self.logits(images).chunks_exact(self.classes).map(first_best).collect()
    }
}

/// d (mean cross-entropy) / d logits, in place.
#[inline(always)]
fn softmax_minus_truth(logits: &mut [f32], classes: usize, labels: &[u32]) {
    let share = 1.0 / labels.len() as f32;
    for (row, label) in logits.chunks_exact_mut(classes).zip(labels) {
        let top = max(row);
        for l in &mut *row {
            *l = exp(*l - top);
        }
        let scale = share / total(row);
        row.iter_mut().for_each(|l| *l *= scale);
        row[*label as usize] -= share;
    }
}

/// Fisher and Yates.
fn shuffle(order: &mut [usize], random: &mut ChaCha8Rng) {
    for last in (1..order.len()).rev() {
        let place = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, place as usize);
    }
}
