//! Classification by the weighted vote of the nearest training images (Wu et al. 2018, §3.4).

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::matmul::{View, product};
use super::{EvalError, Features, accuracy, check};
use crate::simd::vectorised;
use crate::swav::math::{max, normalise};

/// How neighbours vote.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Neighbours that vote; all images of the train set where it has fewer.
    pub k: usize,
    /// A vote weighs exp(cosine / temperature). At least 0.01, so that f64 holds every sum.
    pub temperature: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { k: 20, temperature: 0.07 }
    }
}

/// What a vote gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Knn {
    /// Test images whose winning class is their label, in percent.
    pub top1: f64,
    /// Neighbours that voted.
    pub k: usize,
    /// Temperature of the votes.
    pub temperature: f64,
    /// Train images.
    pub train: usize,
    /// Test images.
    pub test: usize,
    /// Classes of the train set.
    pub classes: usize,
}

/// Test images of one product: fixed, so that results do not depend on threads.
const QUERIES: usize = 256;
/// Train images of one product.
const BANK: usize = 1024;
/// Similarities looked at together.
const GLANCE: usize = 32;

/// Weighted kNN by cosine on `threads` threads; the result is the same for any number of them.
///
/// Of equally near images the first of the train set votes, of equally heavy classes the first wins.
///
/// # Errors
/// [`EvalError`] when the sets are empty, of odd shape or not finite, or a setting is out of range.
pub fn knn(train: Features<'_>, test: Features<'_>, settings: &Settings, threads: usize) -> Result<Knn, EvalError> {
    let classes = check(&train, &test)?;
    if settings.k == 0 {
        return Err(EvalError::Setting { key: "k", want: "1 or more" });
    }
    if !(0.01..f64::INFINITY).contains(&settings.temperature) {
        return Err(EvalError::Setting { key: "temperature", want: "0.01 or more" });
    }
    let k = settings.k.min(train.labels.len());
    let bank = Bank { rows: normalised(train), dim: train.dim, labels: train.labels, classes, k, temperature: settings.temperature };
    let queries = normalised(test);
    let classified = bank.classify(&queries, threads);
    let top1 = accuracy(&classified, test.labels);
    Ok(Knn { top1, k, temperature: settings.temperature, train: train.labels.len(), test: test.labels.len(), classes })
}

fn normalised(features: Features<'_>) -> Vec<f32> {
    let mut rows = features.values.to_vec();
    vectorised(
        #[inline(always)]
        || rows.chunks_exact_mut(features.dim).for_each(normalise),
    );
    rows
}

struct Bank<'a> {
    rows: Vec<f32>,
    dim: usize,
    labels: &'a [u32],
    classes: usize,
    k: usize,
    temperature: f64,
}

impl Bank<'_> {
    /// The class of each query. Threads take whole blocks of queries, whose results stand by themselves.
    fn classify(&self, queries: &[f32], threads: usize) -> Vec<u32> {
        let blocks: Vec<&[f32]> = queries.chunks(QUERIES * self.dim).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let take = || blocks.get(next.fetch_add(1, Ordering::Relaxed)).copied();
            let mut done = Vec::new();
            let mut scratch = vec![0.0; QUERIES * BANK];
            while let Some(block) = take() {
                done.push((block.as_ptr().addr(), self.block(block, &mut scratch)));
            }
            done
        };
        let mut done = std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads.clamp(1, blocks.len())).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for helper in helpers {
                done.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        });
        done.sort_unstable_by_key(|(place, _)| *place);
        done.into_iter().flat_map(|(_, classes)| classes).collect()
    }

    fn block(&self, queries: &[f32], scratch: &mut [f32]) -> Vec<u32> {
        let count = queries.len() / self.dim;
        let mut nearest = vec![Nearest::new(self.k); count];
        for (part, bank) in self.rows.chunks(BANK * self.dim).enumerate() {
            let width = bank.len() / self.dim;
            let cosines = &mut scratch[..count * width];
            product(cosines, View::new(queries, count, self.dim), View::new(bank, width, self.dim).transposed());
            vectorised(
                #[inline(always)]
                || {
                    for (row, nearest) in cosines.chunks_exact(width).zip(&mut nearest) {
                        nearest.look_at(row, part * BANK);
                    }
                },
            );
        }
        nearest.iter().map(|nearest| self.vote(nearest)).collect()
    }

    fn vote(&self, nearest: &Nearest) -> u32 {
        let mut votes = vec![0.0f64; self.classes];
        for (cosine, index) in &nearest.found {
            votes[self.labels[*index] as usize] += (f64::from(*cosine) / self.temperature).exp();
        }
        let mut best = 0;
        for (class, vote) in votes.iter().enumerate() {
            if *vote > votes[best] {
                best = class;
            }
        }
        best as u32
    }
}

/// The nearest so far: (cosine, index), nearest first, earlier index first among equals.
#[derive(Clone)]
struct Nearest {
    found: Vec<(f32, usize)>,
    k: usize,
    worst: f32,
}

impl Nearest {
    fn new(k: usize) -> Self {
        Self { found: Vec::with_capacity(k + 1), k, worst: f32::NEG_INFINITY }
    }

    /// Takes in the cosines of images `first ..`; calls must come in the order of images.
    #[inline(always)]
    fn look_at(&mut self, cosines: &[f32], first: usize) {
        for (glance, chunk) in cosines.chunks(GLANCE).enumerate() {
            if max(chunk) > self.worst {
                for (i, cosine) in chunk.iter().enumerate() {
                    if *cosine > self.worst {
                        self.insert(*cosine, first + glance * GLANCE + i);
                    }
                }
            }
        }
    }

    #[inline(never)]
    fn insert(&mut self, cosine: f32, index: usize) {
        let place = self.found.partition_point(|(other, _)| *other >= cosine);
        self.found.insert(place, (cosine, index));
        self.found.truncate(self.k);
        if self.found.len() == self.k {
            self.worst = self.found[self.k - 1].0;
        }
    }
}
