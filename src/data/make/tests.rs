//! The made images: the same bytes for the same spec, balanced labels, weak baselines.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn small() -> Spec {
    Spec { seed: 7, train: 45, test: 13, size: 24, shard_images: 20, quality: 90 }
}

fn silent(_: usize, _: usize) {}

fn shards(made: &Made) -> Vec<Vec<u8>> {
    made.train.iter().chain(&made.test).map(|path| fs::read(path).unwrap()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_folder_holds_whole_webdataset_shards() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a/set");
    let (most, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let made = make(&dir, &small(), 2, &|done, total| {
        assert_eq!(total, 58);
        most.fetch_max(done, Ordering::Relaxed);
        calls.fetch_add(1, Ordering::Relaxed);
    })
    .unwrap();
    assert!(made.fresh);
    assert_eq!((most.into_inner(), calls.into_inner()), (58, 4));
    assert_eq!(names(&dir), ["classes.txt", "dataset.json", "test-000000.tar", "train-000000.tar", "train-000001.tar", "train-000002.tar"]);
    assert_eq!(names(&root.path().join("a")), ["set"], "nothing hidden is left");
    assert_eq!(fs::read_to_string(dir.join("classes.txt")).unwrap().lines().collect::<Vec<_>>(), CLASSES);

    let mut index = 0;
    for path in &made.train {
        let mut tar = tar::Archive::new(fs::File::open(path).unwrap());
        let mut entries = BTreeMap::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            entries.insert(entry.path().unwrap().to_str().unwrap().to_owned(), bytes);
        }
        for _ in 0..entries.len() / 3 {
            let sample = render(&small(), Split::Train, index);
            let image = image::load_from_memory(&entries[&format!("{index:08}.jpg")]).unwrap().into_rgb8();
            assert_eq!(image.dimensions(), (24, 24));
            let apart: u64 = image.iter().zip(sample.image.iter()).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
            assert!(apart < 24 * 24 * 3 * 40, "the JPEG is not the rendered image: {apart}");
            assert_eq!(entries[&format!("{index:08}.cls")], CLASSES[sample.label].as_bytes());
            let attributes: Attributes = serde_json::from_slice(&entries[&format!("{index:08}.json")]).unwrap();
            assert_eq!(attributes, sample.attributes);
            index += 1;
        }
    }
    assert_eq!(index, 45);
}

#[test]
fn bytes_depend_on_the_spec_alone() {
    let root = tempfile::tempdir().unwrap();
    let of = |name: &str, spec: &Spec, threads| shards(&make(&root.path().join(name), spec, threads, &silent).unwrap());
    let one = of("one", &small(), 1);
    assert_eq!(one, of("three", &small(), 3));
    let other = of("other", &Spec { seed: 8, ..small() }, 2);
    assert!(one.iter().zip(&other).all(|(a, b)| a != b));
    assert_ne!(render(&small(), Split::Train, 0).image, render(&small(), Split::Test, 0).image);
}

#[test]
fn a_second_call_does_nothing_and_another_spec_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("set");
    let made = make(&dir, &small(), 2, &silent).unwrap();
    let again = make(&dir, &small(), 2, &|_, _| panic!("rendered again")).unwrap();
    assert_eq!(again, Made { fresh: false, ..made.clone() });
    let before = shards(&made);

    let error = make(&dir, &Spec { seed: 8, ..small() }, 2, &silent).unwrap_err();
    assert!(error.to_string().contains("holds a dataset made from another spec: name another folder"), "{error}");
    assert_eq!(shards(&made), before);

    fs::remove_file(&made.train[1]).unwrap();
    let error = make(&dir, &small(), 2, &silent).unwrap_err();
    assert!(error.to_string().contains("shards missing"), "{error}");
}

#[test]
fn foreign_content_is_refused_and_an_empty_folder_is_filled() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("set");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("diary.txt"), "mine").unwrap();
    assert!(matches!(make(&dir, &small(), 2, &silent), Err(MakeError::Occupied { .. })));
    assert_eq!(names(&dir), ["diary.txt"]);
    let file = dir.join("diary.txt");
    assert!(make(&file, &small(), 2, &silent).unwrap_err().to_string().contains("is a file"));

    fs::remove_file(file).unwrap();
    // What a killed call left behind goes away.
    fs::create_dir(root.path().join(".set.making")).unwrap();
    fs::write(root.path().join(".set.making/train-000000.tar"), "torn").unwrap();
    assert!(make(&dir, &small(), 2, &silent).unwrap().fresh);
    assert_eq!(names(root.path()), ["set"]);
}

#[test]
fn a_spec_out_of_bounds_is_named() {
    let root = tempfile::tempdir().unwrap();
    for (spec, field) in [
        (Spec { train: 0, ..small() }, "`train = 0`"),
        (Spec { test: usize::MAX, ..small() }, "`test ="),
        (Spec { size: 100_000, ..small() }, "`size = 100000`"),
        (Spec { shard_images: 0, ..small() }, "`shard_images = 0`"),
        (Spec { quality: 101, ..small() }, "`quality = 101`"),
    ] {
        let error = make(&root.path().join("set"), &spec, 1, &silent).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
    assert!(names(root.path()).is_empty());
}

#[test]
fn concurrent_calls_make_it_once() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("set");
    let fresh: usize = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3).map(|_| scope.spawn(|| make(&dir, &small(), 1, &silent).unwrap().fresh)).collect();
        calls.into_iter().map(|call| usize::from(call.join().unwrap())).sum()
    });
    assert_eq!(fresh, 1);
}

#[test]
fn every_ten_images_hold_each_class_once() {
    let mut orders = std::collections::BTreeSet::new();
    for ten in 0..30 {
        let order: Vec<_> = (0..10).map(|i| scene::label(3, Split::Train, ten * 10 + i)).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        orders.insert(order);
    }
    assert!(orders.len() > 25, "the order within ten hardly varies");
}

#[test]
fn regions_are_uneven_over_classes() {
    let mut counts = [[0_usize; 4]; 10];
    for index in 0..8_000 {
        let scene = scene::Scene::draw(1, Split::Train, index);
        counts[scene.form.class][scene.region] += 1;
    }
    for (class, of) in counts.iter().enumerate() {
        for (region, &count) in of.iter().enumerate() {
            let share = if region == class % 4 { HOME_SHARE } else { (1.0 - HOME_SHARE) / 3.0 };
            // 800 draws a class: 5 standard deviations are at most 71.
            assert!((count as f64 - 800.0 * share).abs() < 75.0, "class {class} region {region}: {count} of 800");
        }
    }
}

#[test]
fn a_region_shifts_the_ground_and_the_light() {
    let mut means = [[0.0_f64; 3]; 4];
    let mut counts = [0.0_f64; 4];
    for index in 0..600 {
        let scene = scene::Scene::draw(1, Split::Train, index);
        let image = scene.paint(16);
        counts[scene.region] += 256.0;
        image.pixels().for_each(|p| (0..3).for_each(|c| means[scene.region][c] += f64::from(p.0[c])));
    }
    let mean = |region: usize, channel: usize| means[region][channel] / counts[region];
    let [north, east, south, _] = [0, 1, 2, 3].map(|r| (mean(r, 0) + mean(r, 1) + mean(r, 2)) / 3.0);
    assert!(north + 3.0 < east && east + 3.0 < south, "brightness {north} {east} {south}");
    let warm = |region| mean(region, 0) - mean(region, 2);
    assert!(warm(0) + 5.0 < warm(2), "red over blue {} {}", warm(0), warm(2));
}

/// Top-1 accuracy of the weighted vote (temperature 0.07) of the 20 nearest by cosine.
fn knn(bank: &[(Vec<f32>, usize)], queries: &[(Vec<f32>, usize)]) -> f32 {
    let right = queries.iter().filter(|(query, label)| {
        let mut near: Vec<(f32, usize)> = bank.iter().map(|(x, l)| (x.iter().zip(query).map(|(a, b)| a * b).sum(), *l)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut votes = [0.0_f32; 10];
        near.iter().take(20).for_each(|(similarity, l)| votes[*l] += (similarity / 0.07).exp());
        (0..10).max_by(|&a, &b| votes[a].total_cmp(&votes[b])) == Some(*label)
    });
    right.count() as f32 / queries.len() as f32
}

fn unit(mut x: Vec<f32>) -> Vec<f32> {
    let norm = x.iter().map(|v| v * v).sum::<f32>().sqrt();
    x.iter_mut().for_each(|v| *v /= norm);
    x
}

fn described(split: Split, count: usize, feature: impl Fn(&Sample) -> Vec<f32>) -> Vec<(Vec<f32>, usize)> {
    let of = |index| {
        let sample = render(&Spec::default(), split, index);
        (unit(feature(&sample)), sample.label)
    };
    (0..count).map(of).collect()
}

#[test]
fn pixels_and_colours_tell_little_of_the_class() {
    let pixels = |s: &Sample| s.image.iter().map(|&v| f32::from(v) / 255.0 - 0.47).collect();
    let colours = |s: &Sample| {
        let mut bins = vec![0.0; 512];
        s.image.pixels().for_each(|p| bins[p.0.iter().fold(0, |bin, &v| bin * 8 + usize::from(v >> 5))] += 1.0);
        bins
    };
    let by_pixels = knn(&described(Split::Train, 800, pixels), &described(Split::Test, 200, pixels));
    let by_colours = knn(&described(Split::Train, 800, colours), &described(Split::Test, 200, colours));
    assert!(by_pixels < 0.35 && by_colours < 0.3, "pixels {by_pixels}, colours {by_colours}");
    // The measure itself works: the class written into the feature is found.
    let label = |s: &Sample| (0..10).map(|i| if i == s.label { 1.0 } else { 0.1 }).collect();
    assert!(knn(&described(Split::Train, 300, label), &described(Split::Test, 50, label)) == 1.0);
}

#[test]
fn the_contact_sheet_has_a_row_for_each_class() {
    let spec = small();
    let sheet = contact_sheet(&spec, 3);
    assert_eq!(sheet.dimensions(), (3 * 26 + 2, 10 * 26 + 2));
    let sample = render(&spec, Split::Train, 14);
    let tile = image::imageops::crop_imm(&sheet, 2 + 26, 2 + 26 * sample.label as u32, 24, 24).to_image();
    assert_eq!(tile, sample.image);
}
