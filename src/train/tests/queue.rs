//! The queue in whole steps: what it holds, what it is read for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use everstep_actors::protocol::ids::Step;
use everstep_actors::workload::Aborted;

use super::run::{Run, job, objective, optimizer, settings};
use crate::model::Recompute;
use crate::train::objective::SwappedPrediction;
use crate::train::queue::Config;
use crate::train::{Loss, Objective, Scores, Settings, SinkhornSum};

const LANES: usize = 4;
const BATCH: usize = 4;
const K: usize = 20;
const DIM: usize = 12;
const BLOCKS: usize = 2;
const START: u64 = 3;

/// What a lane's objective was given, and what it made of it.
#[derive(Clone)]
struct Seen {
    values: Vec<f32>,
    queue: Vec<f32>,
    loss: Loss,
}

type Steps = BTreeMap<(u64, usize), Seen>;

struct Recorder {
    inner: SwappedPrediction,
    seen: Arc<Mutex<Steps>>,
}

impl Objective for Recorder {
    fn loss(&self, step: Step, scores: Scores<'_>, sum: &mut SinkhornSum<'_>) -> Result<Loss, Aborted> {
        let loss = self.inner.loss(step, scores, sum)?;
        let lane = std::thread::current().name().unwrap().strip_prefix("lane-").unwrap().parse().unwrap();
        let seen = Seen { values: scores.values.to_vec(), queue: scores.queue.to_vec(), loss: loss.clone() };
        self.seen.lock().unwrap().insert((step.0, lane), seen);
        Ok(loss)
    }
}

/// Six steps: what the objectives saw, the queue and the prototypes before each step.
fn run() -> (Steps, Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let seen = Arc::new(Mutex::new(Steps::new()));
    let config = Config { images: LANES * BATCH * BLOCKS, start: START, crops: 2, random: false };
    let settings = Settings { queue: Some(config), ..settings(LANES as u32, Recompute::Never) };
    let recorder = Recorder { inner: objective(), seen: seen.clone() };
    let mut run = Run::seeded(job(settings, Box::new(recorder), optimizer()));
    let (mut queues, mut prototypes) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let [.., p, q] = &run.state.values[..] else { panic!("prototypes and queue come last") };
        prototypes.push(p.clone());
        queues.push(q.clone());
        run.step();
    }
    let seen = seen.lock().unwrap().clone();
    (seen, queues, prototypes)
}

/// Rows of the queue `[lanes, 2, BLOCKS, BATCH, DIM]`.
fn rows(queue: &[f32], lane: usize, crop: usize, blocks: std::ops::Range<usize>) -> &[f32] {
    let at = |block: usize| ((lane * 2 + crop) * BLOCKS + block) * BATCH * DIM;
    &queue[at(blocks.start)..at(blocks.end)]
}

fn scores(rows: &[f32], prototypes: &[f32]) -> Vec<f32> {
    let score = |z: &[f32], p: &[f32]| z.iter().zip(p).map(|(z, p)| f64::from(*z) * f64::from(*p)).sum::<f64>() as f32;
    rows.chunks_exact(DIM).flat_map(|z| prototypes.chunks_exact(DIM).map(move |p| score(z, p))).collect()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn remembers_each_lanes_newest_embeddings_and_is_read_once_full_and_begun() {
    let (seen, queues, prototypes) = run();
    for step in 0..6 {
        for lane in 0..LANES {
            let now = &seen[&(step as u64, lane)];
            for block in 0..BLOCKS {
                let written = (0..step).rev().find(|s| s % BLOCKS == block);
                for crop in 0..2 {
                    let rows = rows(&queues[step], lane, crop, block..block + 1);
                    let Some(written) = written else {
                        assert!(rows.iter().all(|v| *v == 0.0), "step {step}: block {block} is not written yet");
                        continue;
                    };
                    let then = &seen[&(written as u64, lane)].values[crop * BATCH * K..][..BATCH * K];
                    let off = apart(&scores(rows, &prototypes[written]), then);
                    assert!(off < 1e-5, "step {step}, lane {lane}, crop {crop}, block {block}: {off}");
                }
            }
            if (step as u64) < START {
                assert!(now.queue.is_empty(), "step {step}");
                continue;
            }
            for crop in 0..2 {
                let want = scores(rows(&queues[step], lane, crop, 0..BLOCKS), &prototypes[step]);
                let off = apart(&want, &now.queue[crop * want.len()..][..want.len()]);
                assert!(off < 1e-5, "step {step}, lane {lane}, crop {crop}: {off}");
            }
        }
    }
}

/// Codes of the rows, as in the paper, in float64.
fn codes(rows: &[&[f32]]) -> Vec<Vec<f64>> {
    let mut q: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|s| ((f64::from(*s) - 1.0) / 0.03).exp()).collect()).collect();
    for _ in 0..10 {
        for k in 0..K {
            let sum: f64 = q.iter().map(|row| row[k]).sum();
            q.iter_mut().for_each(|row| row[k] /= sum);
        }
        for row in &mut q {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|value| *value /= sum);
        }
    }
    q
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let partition: f64 = row.iter().map(|s| (f64::from(*s) / 0.1).exp()).sum();
    row.iter().map(|s| f64::from(*s) / 0.1 - partition.ln()).collect()
}

/// Each lane's loss when the codes are those of one batch of all lanes' images and, with `queue`, all lanes' queues.
fn by_hand(seen: &[&Seen], queue: bool) -> Vec<f64> {
    let mut losses = vec![0.0; LANES];
    for crop in 0..2 {
        let new = seen.iter().flat_map(|seen| seen.values[crop * BATCH * K..][..BATCH * K].chunks_exact(K));
        let half = BLOCKS * BATCH * K;
        let old = seen.iter().filter(|_| queue).flat_map(|seen| seen.queue[crop * half..][..half].chunks_exact(K));
        let codes = codes(&new.chain(old).collect::<Vec<_>>());
        for (lane, seen) in seen.iter().enumerate() {
            for other in (0..4).filter(|other| *other != crop) {
                for image in 0..BATCH {
                    let log_p = log_softmax(&seen.values[(other * BATCH + image) * K..][..K]);
                    let agreement: f64 = log_p.iter().zip(&codes[lane * BATCH + image]).map(|(p, q)| p * q).sum();
                    losses[lane] -= agreement / (2 * 3 * BATCH) as f64;
                }
            }
        }
    }
    losses
}

#[test]
fn codes_are_those_of_one_big_batch() {
    let (seen, ..) = run();
    for step in 0..6 {
        let lanes: Vec<&Seen> = (0..LANES).map(|lane| &seen[&(step, lane)]).collect();
        let (with, without) = (by_hand(&lanes, step >= START), by_hand(&lanes, false));
        for lane in 0..LANES {
            let got = f64::from(lanes[lane].loss.loss);
            assert!((got - with[lane]).abs() < 1e-4, "step {step}, lane {lane}: {got}, by hand {}", with[lane]);
            if step >= START {
                assert!((got - without[lane]).abs() > 1e-3, "step {step}, lane {lane}: the queue counts");
            }
        }
    }
}
