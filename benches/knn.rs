//! Weighted kNN of 2,000 images against 20,000, normalisation and vote included. The peer: `benches/peers/knn.py`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use everstep::eval::Features;
use everstep::eval::knn::{Settings, knn};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Sums of four uniform draws: near enough to normal.
fn features(rows: usize, dim: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    (0..rows * dim).map(|_| (0..4).map(|_| random.next_u32() as f32 / u32::MAX as f32 - 0.5).sum()).collect()
}

fn neighbours(c: &mut Criterion) {
    for dim in [128, 400] {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let (bank, queries) = (features(20_000, dim, &mut random), features(2_000, dim, &mut random));
        let labels: Vec<u32> = (0..20_000).map(|_| random.next_u32() % 10).collect();
        let train = Features { values: &bank, dim, labels: &labels };
        let test = Features { values: &queries, dim, labels: &labels[..2_000] };
        for threads in [1, 2] {
            c.bench_function(&format!("knn 20000x2000x{dim}, {threads} threads"), |b| {
                b.iter(|| knn(black_box(train), black_box(test), &Settings::default(), threads));
            });
        }
    }
}

criterion_group! { name = benches; config = Criterion::default().sample_size(10); targets = neighbours }
criterion_main!(benches);
