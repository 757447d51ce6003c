//! One optimizer step on every device of this build, all lanes in this process: of the small net of `configs/cifar10.toml` on 128 images in 4 lanes of
//! 32, and of `regnet_y_400mf` on 32 images in one lane.
//!
//! Forward, codes, backward and the optimizer on whole units; no decoding and no wire. Lanes are threads, so the time is that of all
//! cores that the process may use; `taskset -c 0` gives it one. With `--features tch` libtorch is measured too. The peer: `benches/peers/step.py`.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use everstep::config::Recipe;
use everstep::train::Swav;
use everstep::{heap, setup};
use everstep_actors::alone::Alone;
use everstep_actors::protocol::ids::{Lane, ShardId, Step, UnitId};
use everstep_actors::workload::{Batch, NewShard, Peers, ShardView, Sums, Workload};
#[path = "common/work.rs"]
mod work;
use work::{crops, recipes};

/// What computes, without what this machine lacks.
const DEVICES: &[&str] = &[
    "flex",
    #[cfg(feature = "tch")]
    "libtorch:cpu",
];

/// A batch for each lane.
fn batches(job: &Swav, recipe: &Recipe) -> Vec<Batch> {
    (0..job.lanes()).map(|lane| Batch { samples: Vec::new(), data: Box::new(crops(recipe, lane)) }).collect()
}

/// All values that an update returns, so that none is computed in vain.
fn step(
    job: &Arc<Swav>,
    batches: Vec<Batch>,
    units: &[Arc<Vec<f32>>],
    slots: &[Vec<Vec<f32>>],
    runtime: &tokio::runtime::Runtime,
) -> Vec<NewShard> {
    let hub = Alone::new(job.lanes(), units.to_vec());
    let lanes = batches.into_iter().zip(0..).map(|(batch, lane)| {
        let peers = Peers::new(Step(0), Lane(lane), hub.clone(), runtime.handle().clone());
        runtime.spawn(job.clone().lane(Step(0), batch, peers))
    });
    for lane in lanes.collect::<Vec<_>>() {
        runtime.block_on(lane).expect("a lane does not panic").expect("a lane of sound crops ends well");
    }
    let gradients = hub.gradients();
    let view = |unit: usize| ShardView {
        id: ShardId { unit: UnitId(unit as u32), index: 0 },
        start: 0,
        values: &units[unit],
        slots: &slots[unit],
    };
    let mut sums = Sums::default();
    for (unit, spec) in job.units().iter().enumerate() {
        let mut norms = vec![(0.0, 0.0); spec.tensors.len()];
        for (tensor, values, gradient) in job.partials(view(unit), &gradients[&UnitId(unit as u32)]).norms {
            norms[tensor as usize] = (values, gradient);
        }
        sums.norms.push(norms);
    }
    (0..units.len()).map(|unit| job.update(Step(0), view(unit), &gradients[&UnitId(unit as u32)], &sums)).collect()
}

fn bench(criterion: &mut Criterion) {
    // As a rank's process does.
    heap::keep();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("threads can be started");
    let mut group = criterion.benchmark_group("step");
    group.sample_size(10);
    let settings = DEVICES.iter().flat_map(|device| ["never", "always"].map(|recompute| (device, recompute)));
    let works = settings.flat_map(|(device, recompute)| {
        let overrides = [format!("memory.recompute={recompute}"), format!("device.name={device}")];
        recipes(&overrides).map(|(net, recipe)| (format!("{net}, {device}, recompute {recompute}"), recipe))
    });
    for (name, recipe) in works {
        let job = Arc::new(setup::workload(&recipe, 860).expect("the recipe makes a job"));
        let units: Vec<Arc<Vec<f32>>> =
            job.units().iter().zip(0..).map(|(unit, id)| Arc::new(job.init(UnitId(id), 0..unit.len()))).collect();
        let slots: Vec<Vec<Vec<f32>>> = units.iter().map(|unit| vec![vec![0.0; unit.len()]; job.slots()]).collect();
        group.bench_function(name, |bencher| {
            let run = |batches| step(&job, batches, &units, &slots, &runtime);
            bencher.iter_batched(|| batches(&job, &recipe), run, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
