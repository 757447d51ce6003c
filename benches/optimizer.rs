//! LARC with momentum on one core: GB of state a second, beside a triad on arrays as large.
//!
//! `cargo bench --bench optimizer`. A step of a shard reads values and gradient for the norms, then values, momentum and gradient, and writes new
//! values and momentum: 28 bytes a value. A triad (a = b + s c) reads 8 and writes 4. Both in turn; medians.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::hint::black_box;
use std::time::Instant;

use everstep::heap;
use everstep::optim::Config;
use everstep::optim::larc::{Rule, Update, partials, update};
use everstep_actors::protocol::ids::{ShardId, UnitId};
use everstep_actors::workload::{ShardView, TensorKind, TensorSpec};

const ROUNDS: usize = 15;
/// Values in all: beyond any cache.
const VALUES: usize = 32 << 20;

/// Seconds of one call.
fn timed<R>(work: impl FnOnce() -> R) -> f64 {
    let begun = Instant::now();
    black_box(work());
    begun.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// One tensor cut into shards.
struct State {
    tensors: Vec<TensorSpec>,
    shard: usize,
    values: Vec<f32>,
    slots: Vec<Vec<f32>>,
    gradient: Vec<f32>,
}

impl State {
    fn new(shard: usize) -> Self {
        let wave = |phase: f32| -> Vec<f32> { (0..shard).map(|i| (i as f32 * 0.37 + phase).sin()).collect() };
        let tensors = vec![TensorSpec { name: "weight".into(), shape: vec![VALUES], offset: 0, kind: TensorKind::Parameter }];
        Self {
            tensors,
            shard,
            values: wave(0.0).repeat(VALUES / shard),
            slots: vec![wave(1.0); VALUES / shard],
            gradient: wave(2.0).repeat(VALUES / shard),
        }
    }

    /// Every shard's norms, and then every shard's new version in place of the old one.
    fn step(&mut self, config: &Config) {
        let shards = || (0..VALUES).step_by(self.shard).map(|start| start..start + self.shard);
        let parts: Vec<_> =
            shards().map(|range| partials(&self.tensors, range.clone(), &self.values[range.clone()], &self.gradient[range])).collect();
        let sum = |part: fn(&(u32, f64, f64)) -> f64| parts.iter().flat_map(|shard| &shard.norms).map(part).sum();
        let norms = [(sum(|norm| norm.1), sum(|norm| norm.2))];
        let rules = [Rule::Parameter];
        let how = Update { config, step: 1000, lr: 1e-3, tensors: &self.tensors, rules: &rules, norms: &norms, nonfinite: 0 };
        for (index, range) in shards().enumerate() {
            let id = ShardId { unit: UnitId(0), index: index as u32 };
            let view = ShardView { id, start: range.start, values: &self.values[range.clone()], slots: &self.slots[index..=index] };
            black_box(update(&how, view, &self.gradient[range]));
        }
    }
}

fn main() {
    heap::keep();
    let config = Config::default();
    let (mut a, b, c) = (vec![0.0f32; VALUES], vec![1.0f32; VALUES], vec![2.0f32; VALUES]);
    println!("| values a shard | LARC and momentum, GB/s | triad, GB/s | ratio |\n|---|---|---|---|");
    for shard in [65_536, 1 << 20, 16 << 20] {
        let mut state = State::new(shard);
        let (mut steps, mut triads) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            steps.push(timed(|| state.step(&config)));
            triads.push(timed(|| {
                a.iter_mut().zip(&b).zip(&c).for_each(|((a, b), c)| *a = b + 3.0 * c);
                black_box(&a)[0]
            }));
        }
        let (step, triad) = (28.0 * VALUES as f64 / 1e9 / median(steps), 12.0 * VALUES as f64 / 1e9 / median(triads));
        println!("| {shard} | {step:.2} | {triad:.2} | {:.2} |", step / triad);
    }
}
