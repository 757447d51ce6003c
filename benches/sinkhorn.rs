//! One assignment of a batch to prototypes, one lane, one thread. The peer: `benches/peers/sinkhorn.py`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use everstep::swav::sinkhorn::{Settings, codes};

/// Sums of three out-of-phase waves: spread like cosines of random vectors in 128 dimensions.
fn cosines(rows: usize, k: usize) -> Vec<f32> {
    (0..rows * k).map(|i| [12.9898, 78.233, 37.719].iter().map(|f| (i as f32 * f).sin()).sum::<f32>() * 0.072).collect()
}

fn sinkhorn(c: &mut Criterion) {
    for (batch, k, iterations) in [(512, 3000, 3), (256, 16_000, 10)] {
        let scores = cosines(batch, k);
        let settings = Settings { epsilon: 0.05, iterations };
        c.bench_function(&format!("sinkhorn {batch}x{k}x{iterations}"), |b| {
            b.iter(|| codes(black_box(&scores), batch, k, &settings, 1, &mut |rows| Ok(Arc::new(rows))));
        });
    }
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = sinkhorn }
criterion_main!(benches);
