//! Neighbours and probes on features whose classes are known.

use super::knn::{Knn, knn};
use super::linear::linear;
use super::*;

/// Rows around one centre a class, with seeded noise.
fn clusters(rows: usize, dim: usize, classes: u32, noise: f32, seed: u64) -> (Vec<f32>, Vec<u32>) {
    use rand_chacha::rand_core::{RngCore, SeedableRng};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || random.next_u32() as f32 / u32::MAX as f32 - 0.5;
    let labels: Vec<u32> = (0..rows as u32).map(|i| i * 7 % classes).collect();
    let centre = |class: u32, i: usize| ((class as f32 + 1.3) * (i as f32 + 0.7)).sin();
    let values = labels.iter().flat_map(|l| (0..dim).map(move |i| (*l, i))).map(|(l, i)| centre(l, i) + noise * draw()).collect();
    (values, labels)
}

/// The definition: sort all cosines in f64.
fn slow_knn(train: Features<'_>, test: Features<'_>, k: usize, temperature: f64) -> f64 {
    let unit = |row: &[f32]| {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        row.iter().map(|v| f64::from(*v) / length).collect::<Vec<_>>()
    };
    let bank: Vec<_> = train.values.chunks(train.dim).map(unit).collect();
    let right = test.values.chunks(test.dim).zip(test.labels).filter(|(row, label)| {
        let query = unit(row);
        let cosine = |b: &Vec<f64>| b.iter().zip(&query).map(|(a, b)| a * b).sum::<f64>();
        let mut near: Vec<_> = bank.iter().map(cosine).zip(train.labels).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut votes = [0.0; 16];
        near[..k].iter().for_each(|(cosine, label)| votes[**label as usize] += (cosine / temperature).exp());
        let best = (0..16).max_by(|a, b| votes[*a].total_cmp(&votes[*b]).then(b.cmp(a))).unwrap();
        best as u32 == **label
    });
    100.0 * right.count() as f64 / test.labels.len() as f64
}

#[test]
fn knn_agrees_with_sorting_everything_on_any_number_of_threads() {
    let (bank, labels) = clusters(2500, 19, 10, 6.0, 1);
    let (queries, truth) = clusters(600, 19, 10, 6.0, 2);
    let train = Features { values: &bank, dim: 19, labels: &labels };
    let test = Features { values: &queries, dim: 19, labels: &truth };
    let want = slow_knn(train, test, 20, 0.07);
    assert!((15.0..95.0).contains(&want), "{want}");
    let got = knn(train, test, &knn::Settings::default(), 1).unwrap();
    assert_eq!(got, Knn { top1: want, k: 20, temperature: 0.07, train: 2500, test: 600, classes: 10 });
    for threads in [0, 2, 3, 64] {
        assert_eq!(knn(train, test, &knn::Settings::default(), threads).unwrap(), got);
    }
}

#[test]
fn of_equally_near_images_the_first_votes() {
    let train = Features { values: &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], dim: 2, labels: &[2, 0, 1] };
    let test = Features { values: &[3.0, 0.0], dim: 2, labels: &[2] };
    let top1 = |k| knn(train, test, &knn::Settings { k, ..Default::default() }, 1).unwrap().top1;
    assert_eq!(top1(1), 100.0);
    // Three equal votes: the first class wins. More neighbours than images: all vote.
    assert_eq!((top1(3), top1(50)), (0.0, 0.0));
}

#[test]
fn nearer_images_weigh_more() {
    let train = Features { values: &[1.0, 0.0, 0.6, 0.8, 0.6, 0.8], dim: 2, labels: &[0, 1, 1] };
    let test = Features { values: &[1.0, 0.0], dim: 2, labels: &[0] };
    assert_eq!(knn(train, test, &knn::Settings { k: 3, temperature: 0.07 }, 1).unwrap().top1, 100.0);
    assert_eq!(knn(train, test, &knn::Settings { k: 3, temperature: 10.0 }, 1).unwrap().top1, 0.0);
}

#[test]
fn linear_probe_learns_and_repeats() {
    let (mut bank, labels) = clusters(800, 12, 4, 2.5, 3);
    let (mut queries, truth) = clusters(300, 12, 4, 2.5, 4);
    // Features of very different scale and a constant one: standardisation must cope.
    for row in bank.chunks_mut(12).chain(queries.chunks_mut(12)) {
        row[0] = row[0] * 1e4 + 1e5;
        row[11] = 3.0;
    }
    let train = Features { values: &bank, dim: 12, labels: &labels };
    let test = Features { values: &queries, dim: 12, labels: &truth };
    let got = linear(train, test, &linear::Settings::default(), 1).unwrap();
    assert!(got.top1 > 85.0, "{got:?}");
    assert_eq!(got.tried.iter().map(|(rate, _)| *rate).collect::<Vec<_>>(), [0.003, 0.01, 0.03, 0.1]);
    assert!(got.tried.contains(&(got.rate, got.top1)) && got.tried.iter().all(|(_, top1)| *top1 <= got.top1));
    for threads in [2, 3, 9] {
        assert_eq!(linear(train, test, &linear::Settings::default(), threads).unwrap(), got);
    }
    let noise = Features { values: &queries, dim: 12, labels: &truth.iter().map(|l| (l + 1) % 4).collect::<Vec<_>>() };
    assert!(linear(train, noise, &linear::Settings::default(), 1).unwrap().top1 < 15.0);
}

#[test]
fn bad_input_is_named() {
    let good = Features { values: &[1.0, 2.0, 3.0, 4.0], dim: 2, labels: &[0, 1] };
    let refused = |train, test| {
        let (a, b) = (knn(train, test, &knn::Settings::default(), 1).unwrap_err(), linear(train, test, &linear::Settings::default(), 1));
        assert_eq!(Err(a.clone()), b);
        a.to_string()
    };
    assert!(refused(Features { values: &[], dim: 2, labels: &[] }, good).starts_with("the train set has no images"));
    assert!(refused(good, Features { labels: &[0], ..good }).contains("one row of features"));
    assert!(refused(good, Features { values: &[1.0, 2.0], dim: 1, ..good }).contains("one network"));
    assert!(refused(good, Features { values: &[1.0, 2.0, 3.0, f32::NAN], ..good }).contains("row 1 of the test set"));
    assert!(refused(Features { labels: &[0, u32::MAX], ..good }, good).contains("label 4294967295"));
    let setting = knn(good, good, &knn::Settings { k: 0, ..Default::default() }, 1).unwrap_err();
    assert_eq!(setting.to_string(), "`k` must be 1 or more");
    let setting = linear(good, good, &linear::Settings { rates: vec![], ..Default::default() }, 1).unwrap_err();
    assert!(setting.to_string().contains("`rates`"));
}

#[test]
fn results_are_json() {
    let good = Features { values: &[1.0, 2.0, -3.0, 4.0], dim: 2, labels: &[0, 1] };
    let got = knn(good, good, &knn::Settings { k: 1, ..Default::default() }, 1).unwrap();
    assert_eq!(serde_json::from_str::<Knn>(&serde_json::to_string(&got).unwrap()).unwrap(), got);
}
