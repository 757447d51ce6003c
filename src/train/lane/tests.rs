//! Steps of whole lanes against plain autodiff, against one batch in float64, and under faults.

use everstep_actors::alone::Alone;
use everstep_actors::protocol::ids::Lane as LaneId;
use everstep_actors::workload::{Aborted, Batch, Collective, NewShard, Partials, ShardView, TensorKind, Unit};

use super::*;
use crate::data::CropGroup;
use crate::model::ops::pool;
use crate::model::{Config, Model, Recompute, Sync, filler};
use crate::planning::{footprint, recompute};
use crate::train::multicrop::{Multicrop, Size};
use crate::train::precision::Precision;
use crate::train::tests::run::{BATCH, Ends, batch, lanes, settings};
use crate::train::{Objective, Optimizer, Settings, SinkhornSum};

/// ½·mean over rows of ‖score − target‖², as `quadratic` in `tests/reference/model.py`.
struct Quadratic;

impl Objective for Quadratic {
    fn loss(&self, _: Step, scores: Scores<'_>, sum: &mut SinkhornSum<'_>) -> Result<Loss, Aborted> {
        sum(vec![1.0; scores.prototypes])?;
        let rows = (scores.crops * scores.batch) as f32;
        let difference = |(i, s): (usize, &f32)| s - 0.1 * ((i % scores.prototypes) % 7) as f32;
        let d: Vec<f32> = scores.values.iter().enumerate().map(difference).collect();
        let loss = 0.5 * d.iter().map(|d| d * d).sum::<f32>() / rows;
        Ok(Loss { loss, d_scores: d.iter().map(|d| d / rows).collect() })
    }
}

struct Panics;

impl Objective for Panics {
    fn loss(&self, _: Step, _: Scores<'_>, _: &mut SinkhornSum<'_>) -> Result<Loss, Aborted> {
        panic!("out of\nmemory")
    }
}

struct Still;

impl Optimizer for Still {
    fn slots(&self) -> usize {
        0
    }
    fn partials(&self, _: &Unit, _: ShardView<'_>, _: &[f32]) -> Partials {
        Partials::default()
    }
    fn update(&self, _: Step, _: &Unit, decay: f32, shard: ShardView<'_>, g: &[f32], _: &everstep_actors::workload::Sums) -> NewShard {
        NewShard { values: shard.values.iter().zip(g).map(|(v, g)| decay * v + g).collect(), slots: vec![] }
    }
}

fn job(settings: Settings, objective: Box<dyn Objective>) -> Arc<Swav> {
    Arc::new(Swav::new(settings, objective, Box::new(Still), filler::device()).unwrap())
}

fn step(settings: Settings) -> (Arc<Swav>, Vec<LaneReport>, Vec<Vec<f32>>) {
    let job = job(settings, Box::new(Quadratic));
    let alone = Alone::new(job.settings().lanes, filler::units(job.model()));
    let hub: Arc<dyn Collective> = alone.clone();
    let reports = lanes(&job, Step(0), &hub).into_iter().map(Result::unwrap).collect();
    (job, reports, alone.gradients().into_values().collect())
}

#[derive(Debug)]
struct Single;

impl Sums for Single {
    fn sum(&self, values: Vec<f32>) -> Arc<Vec<f32>> {
        Arc::new(values)
    }
    fn lanes(&self) -> usize {
        1
    }
}

/// The same model as one autodiff graph.
fn plain(model: &Model, weights: &[Arc<Vec<f32>>], crops: &LaneCrops) -> Vec<Vec<f32>> {
    let device = filler::device().autodiff();
    let sums: Arc<dyn Sums> = Arc::new(Single);
    let mut leaves = Vec::new();
    let mut features = Vec::new();
    for group in &crops.groups {
        let shape = [group.crops * BATCH, 3, group.size, group.size];
        let mut x = Tensor::<4>::from_data(TensorData::new(group.pixels.clone(), shape), &device);
        for (unit, layout) in model.trunk().iter().enumerate() {
            let mut pass = Pass::new(layout, &weights[unit], &device, true, Norms::Measured(sums.clone()));
            x = pass.trunk(x);
            leaves.push((unit, pass.finish().1));
        }
        features.push(pool(x));
    }
    let (head, prototypes) = (model.trunk().len(), model.trunk().len() + 1);
    let mut pass = Pass::new(model.head(), &weights[head], &device, true, Norms::Measured(sums));
    let z = pass.head(Tensor::cat(features, 0));
    leaves.push((head, pass.finish().1));
    let mut pass = Pass::new(model.prototypes(), &weights[prototypes], &device, true, Norms::Running);
    let scores = pass.scores(z);
    leaves.push((prototypes, pass.finish().1));

    let s = values(scores.clone().inner());
    let shape = Scores { values: &s, queue: &[], crops: 4, batch: BATCH, prototypes: model.count(), lanes: 1 };
    let loss = Quadratic.loss(Step(0), shape, &mut |rows| Ok(Arc::new(rows))).unwrap();
    let d = Tensor::<2>::from_data(TensorData::new(loss.d_scores, scores.dims()), &filler::device());
    let mut gradients = seeded(scores, d);
    let mut flat: Vec<Vec<f32>> = model.units().iter().map(|u| vec![0.0; u.len()]).collect();
    for (unit, leaves) in leaves {
        leaves.add(&mut gradients, 1.0, &mut flat[unit]);
    }
    flat
}

#[test]
fn sharded_and_recomputed_gradients_equal_plain_autodiff_bit_for_bit() {
    for recompute in [Recompute::Always, Recompute::Never] {
        let (job, _, gradients) = step(settings(1, recompute));
        let model = job.model();
        assert!(model.trunk().len() > 2, "several units");
        let crops = batch(&job, 0).data.downcast::<LaneCrops>().unwrap();
        let reference = plain(model, &filler::units(model), &crops);
        assert_eq!(gradients.len(), reference.len());
        for (unit, (ours, plain)) in model.units().iter().zip(gradients.iter().zip(&reference)) {
            for tensor in unit.tensors.iter().filter(|t| t.kind == TensorKind::Parameter) {
                assert!(plain[tensor.range()].iter().any(|v| *v != 0.0), "{} has a gradient", tensor.name);
                assert_eq!(ours[tensor.range()], plain[tensor.range()], "{} with recompute {recompute:?}", tensor.name);
            }
        }
    }
}

fn against_float64(lanes: u32, recompute: Recompute) {
    let fixture = filler::fixture("model_step.safetensors");
    let (job, reports, gradients) = step(settings(lanes, recompute));
    let metric = |name| reports.iter().map(|r| r.metrics.iter().find(|m| m.0 == name).unwrap().1).sum::<f32>() / lanes as f32;
    let loss = filler::tensor(&fixture, "quadratic.loss")[0];
    assert!((metric("loss") - loss).abs() < 1e-5 * loss, "{} {loss}", metric("loss"));
    assert!((0.0..=20f32.ln()).contains(&metric("entropy")) && metric("embedding_std") > 0.0);
    let (mut checked, weights) = (0, filler::units(job.model()));
    for (id, unit) in job.model().units().iter().enumerate() {
        let decay = job.model().decay(UnitId(id as u32), 2);
        for tensor in &unit.tensors {
            let ours = &gradients[id][tensor.range()];
            let (ours, reference) = match tensor.kind {
                TensorKind::Parameter => (ours.to_vec(), filler::tensor(&fixture, &format!("quadratic.grad.{}", tensor.name))),
                TensorKind::Buffer => {
                    let old = &weights[id][tensor.range()];
                    let new = old.iter().zip(ours).map(|(r, c)| decay * r + c).collect();
                    (new, filler::tensor(&fixture, &format!("buffer.{}", tensor.name)))
                }
            };
            // A bias before a batch norm has no gradient but rounding's.
            if reference.iter().all(|v| v.abs() < 1e-12) {
                assert!(ours.iter().all(|v| v.abs() < 1e-6), "{}", tensor.name);
                continue;
            }
            let distance = filler::distance(&ours, &reference);
            assert!(distance < 1e-4, "{} with {lanes} lanes: {distance:e}", tensor.name);
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked} tensors");
}

#[test]
fn four_lanes_equal_one_batch_in_float64() {
    against_float64(4, Recompute::Always);
}

#[test]
fn one_lane_equals_one_batch_in_float64() {
    against_float64(1, Recompute::Never);
}

#[test]
fn all_memory_plans_give_the_same_bits() {
    let (_, reports, kept) = step(settings(4, Recompute::Never));
    let metrics = |reports: &[LaneReport]| reports.iter().map(|r| r.metrics.clone()).collect::<Vec<_>>();
    let mut seen = std::collections::BTreeSet::new();
    let (job, ..) = step(settings(4, Recompute::Never));
    let units = footprint::trunk(job.model().trunk(), &job.settings().crops.passes(4), footprint::VALUE);
    let head = footprint::head(job.model(), 16);
    let (least, most) = (recompute::least_memory(&units, head), recompute::peak(&units, head, &recompute::never(units.len())));
    let budgets = [0, 1, 2, 3].map(|i| Recompute::Within(least + (most - least) * i / 4));
    for plan in [Recompute::Always, Recompute::Segments(1), Recompute::Segments(2)].into_iter().chain(budgets) {
        let (job, again, recomputed) = step(settings(4, plan));
        assert_eq!(kept, recomputed, "{plan:?}");
        assert_eq!(metrics(&reports), metrics(&again));
        seen.insert(format!("{:?}", job.plan()));
    }
    assert!(seen.len() > 4, "plans of every kind: {seen:#?}");
}

#[test]
fn padded_crops_give_the_same_bits_with_any_plan_and_others_than_crops_by_themselves() {
    let padded = |plan| {
        let mut settings = settings(2, plan);
        settings.crops.padded = true;
        step(settings).2
    };
    let kept = padded(Recompute::Never);
    assert_eq!(kept, padded(Recompute::Segments(2)));
    assert_eq!(kept, padded(Recompute::Always));
    assert_ne!(kept, step(settings(2, Recompute::Never)).2);
}

#[test]
fn lanes_by_themselves_differ_from_lanes_together() {
    let mut alone = settings(4, Recompute::Never);
    alone.model.sync = Sync::Lane;
    let mut pairs = settings(4, Recompute::Never);
    pairs.model.sync = Sync::Group(2);
    let all = step(settings(4, Recompute::Never)).2;
    let (alone, pairs) = (step(alone).2, step(pairs).2);
    assert!(alone != all && pairs != all && alone != pairs);
}

#[test]
fn an_epoch_that_ends_at_any_call_aborts_the_lanes() {
    let job = job(settings(2, Recompute::Always), Box::new(Quadratic));
    let units = filler::units(job.model());
    for at in 0.. {
        let hub: Arc<dyn Collective> = Ends::at(at, Alone::new(2, units.clone()));
        let results = lanes(&job, Step(0), &hub);
        if results.iter().all(Result::is_ok) {
            assert!(at > 100, "{at} calls, those inside backward passes among them");
            return;
        }
        for result in results {
            assert!(matches!(result, Ok(_) | Err(LaneError::Aborted(_))), "at call {at}: {result:?}");
        }
    }
}

#[test]
fn a_panic_is_one_sentence_and_a_bad_batch_too() {
    let job = job(settings(1, Recompute::Never), Box::new(Panics));
    let hub: Arc<dyn Collective> = Alone::new(1, filler::units(job.model()));
    let error = lanes(&job, Step(0), &hub).remove(0).unwrap_err();
    assert_eq!(error.to_string(), "lane 0 failed at step 0: out of memory");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let peers = || Peers::new(Step(0), LaneId(0), hub.clone(), runtime.handle().clone());
    let short = LaneCrops { groups: vec![CropGroup { crops: 2, size: 16, pixels: vec![0.0; 5] }; 2], images: 1 };
    for data in [Box::new(short) as Box<dyn std::any::Any + Send>, Box::new(3)] {
        assert!(matches!(job.step(Step(0), Batch { samples: vec![], data }, peers()), Err(LaneError::Failed(_))));
    }
}

/// CPU time of the whole process: what a shared machine can be asked for.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// `cargo test --release --lib lane::tests::time_of_a_step -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn time_of_a_step() {
    for (lanes, recompute) in [(1, Recompute::Never), (1, Recompute::Always), (4, Recompute::Never), (4, Recompute::Always)] {
        let settings = Settings {
            model: Config::default(),
            recompute,
            seed: 1,
            lanes,
            batch: 128 / lanes as usize,
            crops: Multicrop { sizes: [32, 16].map(|side| Size { crops: 2, side }).to_vec(), padded: false },
            queue: None,
            precision: Precision::default(),
        };
        let job = job(settings, Box::new(Quadratic));
        let weights: Vec<_> = (0..job.model().units().len() as u32)
            .map(|u| Arc::new(job.model().init(1, UnitId(u), 0..job.model().units()[u as usize].len())))
            .collect();
        let n = job.settings().batch;
        let group = |size: usize| CropGroup { crops: 2, size, pixels: filler::fill("input", &[2 * n, 3, size, size]) };
        let crops = LaneCrops { groups: vec![group(32), group(16)], images: n };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let mut times: Vec<f64> = (0..12)
            .map(|_| {
                use everstep_actors::workload::Workload;
                let hub: Arc<dyn Collective> = Alone::new(lanes, weights.clone());
                let start = cpu_seconds();
                let lanes: Vec<_> = (0..lanes)
                    .map(|lane| {
                        let peers = Peers::new(Step(0), LaneId(lane), hub.clone(), runtime.handle().clone());
                        runtime.spawn(job.clone().lane(Step(0), Batch { samples: vec![], data: Box::new(crops.clone()) }, peers))
                    })
                    .collect();
                lanes.into_iter().for_each(|lane| drop(runtime.block_on(lane).unwrap().unwrap()));
                cpu_seconds() - start
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{lanes} lanes, recompute {recompute:?}: {:.3} CPU seconds at least, {:.3} in the median", times[0], times[6]);
    }
}
