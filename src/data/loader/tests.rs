//! Batches as pure functions of step and lane, and bad images among good ones.

use super::*;
use crate::data::augment::recipe::GroupRecipe;
use crate::data::source::tests::{png, tar};
use everstep_actors::workload::Source as _;
use tempfile::TempDir;

fn small() -> Crops {
    let group = |count, size| GroupRecipe { count, size, ..GroupRecipe::default() };
    Crops { groups: vec![group(2, 16), group(3, 8)], ..Crops::default() }
}

/// `n` images in two shards; those in `bad` are text.
fn data(n: u64, bad: &[u64]) -> (TempDir, Arc<Source>) {
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<(String, Vec<u8>)> = (0..n)
        .map(|i| (format!("{i:03}.png"), if bad.contains(&i) { b"text".to_vec() } else { png(20, 20, [i as u8 * 5, 100, 200 - i as u8]) }))
        .collect();
    let entries: Vec<(&str, &[u8])> = images.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let (first, second) = entries.split_at(entries.len() / 3);
    std::fs::write(folder.path().join("0.tar"), tar(first)).unwrap();
    std::fs::write(folder.path().join("1.tar"), tar(second)).unwrap();
    let source = Source::open(folder.path().to_str().unwrap(), None).unwrap();
    (folder, Arc::new(source))
}

type Reports = Arc<Mutex<Vec<BadSample>>>;

fn loader(source: &Arc<Source>, lanes: u32, images_per_lane: u32, bad_share_max: f64) -> (Loader, Reports) {
    let reports = Reports::default();
    let sink = Arc::clone(&reports);
    let options = LoaderOptions { seed: 11, lanes, images_per_lane, crops: small(), bad_share_max, ..LoaderOptions::default() };
    (Loader::new(Arc::clone(source), options, Arc::new(move |bad| sink.lock().unwrap().push(bad.clone()))).unwrap(), reports)
}

#[test]
fn every_sample_of_a_pass_is_decoded_once() {
    let (_folder, source) = data(23, &[]);
    let (loader, _) = loader(&source, 3, 2, 0.0);
    assert_eq!(loader.steps_per_pass(), 3);
    let ids = |pass: u64| -> Vec<u64> {
        let batches = (0..3).flat_map(|step| (0..3).map(move |lane| (Step(pass * 3 + step), Lane(lane))));
        batches.flat_map(|(step, lane)| loader.batch(step, lane).unwrap().samples).collect()
    };
    let first = ids(0);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 18);
    assert_ne!(ids(1), first);
}

#[test]
fn a_batch_is_a_pure_function_of_step_and_lane() {
    let (_folder, source) = data(23, &[5]);
    let (one, _) = loader(&source, 2, 3, 0.5);
    let (other, _) = loader(&source, 2, 3, 0.5);
    other.crops(Step(7), Lane(0)).unwrap();
    let (samples, crops) = one.crops(Step(1), Lane(1)).unwrap();
    assert_eq!(other.crops(Step(1), Lane(1)).unwrap(), (samples.clone(), crops.clone()));
    let batch = one.batch(Step(1), Lane(1)).unwrap();
    assert_eq!(batch.samples, samples);
    assert_eq!(batch.data.downcast_ref::<LaneCrops>(), Some(&crops));
    assert_eq!(crops.images, 3);
    assert_eq!(crops.groups[1].pixels.len(), 3 * 3 * 3 * 8 * 8);
}

#[test]
fn the_lane_layout_does_not_change_an_image() {
    let (_folder, source) = data(24, &[]);
    let (wide, _) = loader(&source, 1, 4, 0.0);
    let (narrow, _) = loader(&source, 4, 1, 0.0);
    let (samples, crops) = wide.crops(Step(2), Lane(0)).unwrap();
    for (image, &wide_sample) in samples.iter().enumerate() {
        let (sample, single) = narrow.crops(Step(2), Lane(image as u32)).unwrap();
        assert_eq!(sample[0], wide_sample);
        let len = 3 * 8 * 8;
        for crop in 0..3 {
            assert_eq!(single.groups[1].pixels[crop * len..][..len], crops.groups[1].pixels[(crop * 4 + image) * len..][..len]);
        }
    }
}

#[test]
fn a_bad_image_is_replaced_the_same_way_everywhere_and_named_once() {
    let (_folder, source) = data(24, &[4, 17]);
    let run = || {
        let (loader, reports) = loader(&source, 1, 8, 0.2);
        let ids: Vec<u64> = (0..6).flat_map(|step| loader.batch(Step(step), Lane(0)).unwrap().samples).collect();
        assert_eq!(loader.bad_samples(), 2);
        let names: BTreeSet<String> = reports.lock().unwrap().iter().map(|bad| bad.name.clone()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["004.png", "017.png"]);
        assert_eq!(reports.lock().unwrap().len(), 2, "once each, though two passes met them");
        assert!(reports.lock().unwrap()[0].reason.contains("not a JPEG"));
        ids
    };
    let ids = run();
    assert_eq!(run(), ids);
    assert!(!ids.contains(&4) && !ids.contains(&17));
    assert_eq!(ids.len(), 48);
}

#[test]
fn too_many_bad_images_end_the_run_with_names() {
    let (_folder, source) = data(24, &[4, 17, 20]);
    let (loader, _) = loader(&source, 1, 24, 0.1);
    let error = loader.batch(Step(0), Lane(0)).unwrap_err().to_string();
    assert!(error.contains("3 of 24") && error.contains("017.png") && error.contains("repair or remove"), "{error}");
    let (_folder, source) = data(24, &(0..24).collect::<Vec<_>>());
    let (loader, _) = self::loader(&source, 1, 24, 1.0);
    let error = loader.batch(Step(0), Lane(0)).unwrap_err().to_string();
    assert!(error.contains("tried in its place"), "{error}");
}

#[test]
fn data_that_changes_under_the_run_ends_it() {
    let (folder, source) = data(24, &[]);
    let (loader, reports) = loader(&source, 1, 24, 1.0);
    std::fs::write(folder.path().join("1.tar"), b"").unwrap();
    let error = loader.batch(Step(0), Lane(0)).unwrap_err().to_string();
    assert!(error.contains("1.tar") && error.contains("changed"), "{error}");
    assert!(reports.lock().unwrap().is_empty(), "not taken for bad images");
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let (_folder, source) = data(10, &[]);
    let refused = |options| Loader::new(Arc::clone(&source), options, Arc::new(|_: &BadSample| {})).unwrap_err().to_string();
    let error = refused(LoaderOptions { lanes: 4, images_per_lane: 3, ..LoaderOptions::default() });
    assert!(error.contains("10 images") && error.contains(source.place()), "{error}");
    assert!(refused(LoaderOptions { images_per_lane: 2, bad_share_max: 1.5, ..LoaderOptions::default() }).contains("1.5"));
}
