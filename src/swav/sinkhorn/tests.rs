//! Codes against reference values, over any number of lanes.

use std::sync::{Barrier, Mutex};

use everstep_actors::alone::Alone;
use everstep_actors::protocol::ids::{Lane, Step};
use everstep_actors::protocol::tree::{TreeSum, cover};
use everstep_actors::workload::{CallId, Peers};

use super::*;
use crate::swav::fixtures::{Fixture, distance};

const K: usize = 24;

/// Codes of all lanes, through the collectives of one process.
fn alone(scores: &[f32], lanes: u32, batch: usize, k: usize, settings: Settings) -> Vec<f32> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let hub = Alone::new(lanes, Vec::new());
    let part = scores.len() / lanes as usize;
    std::thread::scope(|scope| {
        let lane = |lane: u32| {
            let peers = Peers::new(Step(0), Lane(lane), hub.clone(), runtime.handle().clone());
            let scores = &scores[lane as usize * part..][..part];
            scope.spawn(move || {
                let mut call = 0;
                let mut sum = |rows| {
                    call += 1;
                    peers.sinkhorn_blocking(CallId(call), rows)
                };
                codes(scores, batch, k, &settings, lanes, &mut sum).unwrap()
            })
        };
        let lanes: Vec<_> = (0..lanes).map(lane).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    })
}

/// Codes of all lanes, with each rank's lanes added up before they reach the tree, ranks in reverse order.
fn placed(scores: &[f32], ranks: &[std::ops::Range<u32>], batch: usize, settings: Settings) -> Vec<f32> {
    let lanes = ranks.last().unwrap().end;
    let barrier = Barrier::new(lanes as usize);
    let parts = Mutex::new(vec![Vec::new(); lanes as usize]);
    let total = Mutex::new(Arc::new(Vec::new()));
    let exchange = |lane: u32, rows: Vec<f32>| {
        parts.lock().unwrap()[lane as usize] = rows;
        if barrier.wait().is_leader() {
            let parts = parts.lock().unwrap();
            let mut tree = TreeSum::new(lanes);
            for node in ranks.iter().rev().flat_map(|rank| cover(rank, lanes)) {
                let mut below = TreeSum::new(node.end - node.start);
                let mut sum = None;
                for lane in node.clone().rev() {
                    sum = below.add(lane - node.start..lane - node.start + 1, parts[lane as usize].clone()).unwrap();
                }
                if let Some(all) = tree.add(node, sum.unwrap()).unwrap() {
                    *total.lock().unwrap() = Arc::new(all);
                }
            }
        }
        barrier.wait();
        Ok(total.lock().unwrap().clone())
    };
    std::thread::scope(|scope| {
        let lane = |lane: u32| {
            let (exchange, scores) = (&exchange, &scores[lane as usize * batch * K..][..batch * K]);
            scope.spawn(move || codes(scores, batch, K, &settings, lanes, &mut |rows| exchange(lane, rows)).unwrap())
        };
        let lanes: Vec<_> = (0..lanes).map(lane).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    })
}

fn single(scores: &[f32], batch: usize, k: usize, settings: Settings) -> Vec<f32> {
    codes(scores, batch, k, &settings, 1, &mut |rows| Ok(Arc::new(rows))).unwrap()
}

/// The definition, in f64, with log-sum-exps: nothing to underflow.
fn exact(scores: &[f32], k: usize, settings: Settings) -> Vec<f64> {
    let log_sum = |values: &mut dyn Iterator<Item = f64>| {
        let values: Vec<f64> = values.collect();
        let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        top + values.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
    };
    let rows = scores.len() / k;
    let mut log_q: Vec<f64> = scores.iter().map(|s| f64::from(*s) / f64::from(settings.epsilon)).collect();
    for round in 0..=settings.iterations {
        if round > 0 {
            for j in 0..k {
                let sum = log_sum(&mut (0..rows).map(|i| log_q[i * k + j]));
                (0..rows).for_each(|i| log_q[i * k + j] -= sum);
            }
        }
        if round > 0 || settings.iterations == 0 {
            for row in log_q.chunks_exact_mut(k) {
                let sum = log_sum(&mut row.iter().copied());
                row.iter_mut().for_each(|q| *q -= sum);
            }
        }
    }
    log_q.into_iter().map(f64::exp).collect()
}

fn cosines(rows: usize, k: usize) -> Vec<f32> {
    (0..rows * k).map(|i| ((i * i % 1009 + i * 31 % 499) as f32 / 1506.0 - 0.5) * 1.9).collect()
}

const SEER: Settings = Settings { epsilon: 0.03, iterations: 10 };
const SWAV: Settings = Settings { epsilon: 0.05, iterations: 3 };

#[test]
fn agrees_with_pytorch() {
    let fixture = Fixture::load();
    let scores = fixture.f32s("sinkhorn.scores");
    for (name, settings) in [("eps05x3", SWAV), ("eps03x10", SEER)] {
        let want = fixture.f64s(&format!("sinkhorn.{name}"));
        for lanes in [1, 4] {
            let off = distance(&alone(&scores, lanes, 16 / lanes as usize, K, settings), &want);
            assert!(off < 1e-5, "{name} on {lanes} lanes: {off}");
        }
        let off = distance(&single(&scores[..4 * K], 4, K, settings), &fixture.f64s(&format!("sinkhorn.alone_{name}")));
        assert!(off < 1e-5, "{name} of one lane by itself: {off}");
    }
}

#[test]
fn placement_of_lanes_does_not_change_the_bits() {
    let scores = Fixture::load().f32s("sinkhorn.scores");
    let want = alone(&scores, 8, 2, K, SEER);
    for ranks in [vec![0..1, 1..8], vec![0..3, 3..8], vec![0..2, 2..5, 5..6, 6..8]] {
        assert_eq!(placed(&scores, &ranks, 2, SEER), want, "{ranks:?}");
    }
}

/// Odd sizes (no multiple of the vector width or the block), scores over the whole range of a cosine.
#[test]
fn agrees_with_the_definition() {
    for (rows, k, settings) in [(7, 45, SEER), (9, 3, SWAV), (1, 70, SEER), (6, 33, Settings { epsilon: 0.05, iterations: 0 })] {
        let scores = cosines(rows, k);
        let off = distance(&single(&scores, rows, k, settings), &exact(&scores, k, settings));
        assert!(off < 2e-5, "{rows} x {k}: {off}");
    }
}

#[test]
fn codes_sum_to_one_and_use_prototypes_alike() {
    let codes = single(&cosines(64, 8), 64, 8, Settings { epsilon: 0.05, iterations: 50 });
    for row in codes.chunks_exact(8) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
    for prototype in 0..8 {
        let used: f32 = codes.iter().skip(prototype).step_by(8).sum();
        assert!((used - 8.0).abs() < 0.1, "prototype {prototype}: {used}");
    }
}

/// Queue entries count in the sums, without codes of their own.
#[test]
fn extra_samples_join_the_sums() {
    let scores = cosines(12, 20);
    let all = single(&scores, 12, 20, SWAV);
    assert_eq!(single(&scores, 5, 20, SWAV), all[..100]);
    assert_ne!(single(&scores[..100], 5, 20, SWAV), all[..100]);
}

/// All samples far from one prototype: exp underflows there, on all lanes alike.
#[test]
fn an_unreached_prototype_is_shared_evenly() {
    let (k, settings) = (4, Settings { epsilon: 0.005, iterations: 3 });
    let mut scores = vec![0.0; 6 * k];
    for (sample, row) in scores.chunks_exact_mut(k).enumerate() {
        row.fill(0.9);
        row[sample % 3] = 0.91;
        row[3] = -1.0;
    }
    for lanes in [1, 3] {
        let codes = alone(&scores, lanes, 6 / lanes as usize, k, settings);
        for row in codes.chunks_exact(k) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!((row[3] - 0.25).abs() < 1e-3, "{row:?}");
        }
    }
}

#[test]
fn broken_scores_show() {
    let mut scores = cosines(4, 10);
    scores[3] = f32::NAN;
    assert!(single(&scores, 4, 10, SWAV).iter().any(|q| q.is_nan()));
}

#[test]
fn an_aborted_sum_ends_it() {
    let mut calls = 0;
    let got = codes(&cosines(4, 10), 4, 10, &SEER, 1, &mut |rows| {
        calls += 1;
        if calls == 3 { Err(Aborted) } else { Ok(Arc::new(rows)) }
    });
    assert_eq!((got, calls), (Err(Aborted), 3));
}
