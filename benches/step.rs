//! One optimizer step on every device of this build, all lanes in this process: of the small net of `configs/cifar10.toml` on 128 images in 4 lanes of
//! 32, and of `regnet_y_400mf` on 32 images in one lane.
//!
//! Forward, codes, backward and the optimizer on whole units; no decoding and no wire. Lanes are threads, so the time is that of all
//! cores that the process may use; `taskset -c 0` gives it one. With `--features tch` libtorch is measured too. The peer: `benches/peers/step.py`.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use everstep::config::{Override, Recipe};
use everstep::data::LaneCrops;
use everstep::setup;
use everstep::train::Swav;
use everstep_actors::alone::Alone;
use everstep_actors::protocol::ids::{Lane, ShardId, Step, UnitId};
use everstep_actors::workload::{Batch, NewShard, Peers, ShardView, Sums, Workload};

/// A recipe of one lane of 32 images with crops of 2×96 and 4×48, as the peer has it.
const LARGER: &str = "
run.steps = 860
data.train = \"none\"
batch = { lanes = 1, images_per_lane = 32 }
cluster.ranks = 1
swav = { epsilon = 0.03, iterations = 3, freeze_prototypes = 0 }
[model]
trunk = \"regnet_y_400mf\"
head = [512, 128]
prototypes = 3000
[[crops.group]]
count = 2
size = 96
scale = [0.14, 1.0]
[[crops.group]]
count = 4
size = 48
scale = [0.05, 0.14]
";

fn recipes(overrides: &[String]) -> [(&'static str, Recipe); 2] {
    let small = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/cifar10.toml");
    let small = Recipe::load(small, overrides).expect("the recipe loads");
    let overrides: Vec<Override> = overrides.iter().map(|text| Override::parse(text).expect("key=value")).collect();
    let larger = Recipe::from_text("regnet_y_400mf", LARGER, &overrides).expect("the recipe loads");
    [("tiny", small), ("400mf", larger)]
}

/// What computes, without what this machine lacks.
const DEVICES: &[&str] = &[
    "flex",
    #[cfg(feature = "tch")]
    "libtorch:cpu",
];

fn crops(recipe: &Recipe, lane: u32) -> LaneCrops {
    let mut crops = LaneCrops::zeros(&setup::crop_recipe(&recipe.crops), recipe.batch.images_per_lane as usize);
    for (i, value) in crops.groups.iter_mut().flat_map(|group| &mut group.pixels).enumerate() {
        *value = ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(lane) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    crops
}

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
