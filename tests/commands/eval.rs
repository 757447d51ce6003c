//! Features, baselines, kNN and the linear probe on a few striped images.

use std::num::NonZeroUsize;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use everstep::cli::ExitCode;
use everstep::data::examples::examples;
use everstep::examine::{self, Exam, Probe, open_source};
use everstep::model::ops::batch_norm::Sums;
use everstep::model::ops::pool;
use everstep::model::pass::{Norms, Pass};
use everstep_actors::protocol::ids::UnitId;

use crate::fixture::{Run, fail, images, jpeg, succeed};

struct Sets {
    _folder: tempfile::TempDir,
    train: String,
    test: String,
}

fn sets(each: u32) -> Sets {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, classes: &[&str], first| images(&folder.path().join(name), classes, each, first).to_str().unwrap().to_owned();
    let (train, test) = (path("train", &["upright", "lying"], 0), path("test", &["upright", "lying"], 1000));
    Sets { train, test, _folder: folder }
}

#[test]
fn knn_and_linear_tell_accuracy_counts_and_settings() {
    let (run, sets) = (Run::new(), sets(20));
    run.save(10);
    let of = |command: &str, more: &[&str]| {
        let arguments = ["eval", command, "--run", run.place(), "--train", &sets.train, "--test", &sets.test];
        succeed(&[&arguments[..], more].concat())
    };
    let text = of("knn", &["--k", "5"]);
    assert!(text.contains("step 10") && text.contains("40 test images") && text.contains("5 neighbours among 40 train"), "{text}");
    let knn: serde_json::Value = serde_json::from_str(&of("knn", &["--json", "--k", "3", "--temperature", "0.1"])).unwrap();
    assert_eq!((knn["method"].as_str(), knn["step"].as_u64(), knn["k"].as_u64()), (Some("knn"), Some(10), Some(3)));
    assert_eq!((knn["temperature"].as_f64(), knn["train"].as_u64(), knn["classes"].as_u64()), (Some(0.1), Some(40), Some(2)));
    assert!(knn["top1"].as_f64().unwrap() > 65.0, "stripes are told apart even by random filters: {knn}");
    let text = of("linear", &[]);
    assert!(text.contains("best of the learning rates 0.003 (") && text.contains("passes over 40"), "{text}");
    let linear: serde_json::Value = serde_json::from_str(&of("linear", &["--json"])).unwrap();
    assert_eq!(linear["tried"].as_array().unwrap().len(), 4);
    assert!(linear["top1"].as_f64().unwrap() > 65.0, "{linear}");
}

#[test]
fn classes_are_matched_by_name_and_what_is_left_out_is_counted() {
    let (run, sets) = (Run::new(), sets(10));
    run.save(10);
    // "a" moves the numbers of the other classes; it looks like "upright", and has its images judged wrong.
    let folder = tempfile::tempdir().unwrap();
    let test = images(folder.path(), &["a", "lying"], 4, 2000);
    std::fs::write(test.join("no-label.jpg"), jpeg(0, 1)).unwrap();
    std::fs::write(test.join("lying/bad.jpg"), b"\xff\xd8\xff nothing more").unwrap();
    let arguments = ["eval", "knn", "--run", run.place(), "--train", &sets.train, "--test", test.to_str().unwrap(), "--k", "3"];
    let text = succeed(&arguments);
    assert!(text.contains("4 test images are of classes") && text.contains("1 test images without a label"), "{text}");
    assert!(text.contains("1 test images that cannot be decoded") && text.contains("lying/bad.jpg"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&succeed(&[&arguments[..], &["--json"]].concat())).unwrap();
    let top1 = json["top1"].as_f64().unwrap();
    assert!((25.0..=50.0).contains(&top1), "4 of 8 cannot be right, those that lie mostly are: {json}");
    assert_eq!(json["left_out_of_test"]["unreadable"][0]["name"].as_str(), Some("lying/bad.jpg"));
}

#[test]
fn sources_that_cannot_be_examined_with_are_named() {
    let (run, sets) = (Run::new(), sets(3));
    run.save(10);
    let with = |train: &str, test: &str, code: ExitCode| {
        fail(&["eval", "knn", "--run", run.place(), "--train", train, "--test", test], code as i32)
    };
    assert!(with("/nowhere", &sets.test, ExitCode::NotFound).contains("/nowhere"));
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    assert!(with(&sets.train, place, ExitCode::Config).contains("there are no images"));
    std::fs::write(folder.path().join("1.jpg"), jpeg(0, 1)).unwrap();
    let problem = with(&sets.train, place, ExitCode::Config);
    assert!(problem.contains(place) && problem.contains("none of its images has a label"), "{problem}");
    images(folder.path(), &["other"], 2, 0);
    let problem = with(&sets.train, place, ExitCode::Config);
    assert!(problem.contains("no class in common"), "{problem}");
    fail_with_usage(run.place(), &sets);
}

fn fail_with_usage(run: &str, sets: &Sets) {
    let arguments = ["eval", "knn", "--run", run, "--train", &sets.train, "--test", &sets.test, "--temperature", "0.001"];
    assert_eq!(crate::fixture::everstep(&arguments).2, ExitCode::Usage as i32);
}

#[test]
fn results_do_not_depend_on_threads_and_caps_choose_always_the_same() {
    let (run, sets) = (Run::new(), sets(90));
    run.save(10);
    let opened = examine::Run::open(run.place()).unwrap();
    let (_, weights) = opened.weights(None).unwrap();
    let (train, test) = (open_source(&sets.train).unwrap(), open_source(&sets.test).unwrap());
    let probe = |threads| Probe { threads, bank_max: Some(70), test_max: Some(30), k: 3, ..Probe::of(opened.recipe()) };
    let features = |threads| Exam::new(&train, &test, &probe(threads)).unwrap().features(opened.job(), &weights).unwrap();
    let one = features(1);
    assert_eq!((one.0.labels.len(), one.1.labels.len(), one.0.dim), (70, 30, 32));
    let upright = one.0.labels.iter().filter(|label| **label == 0).count();
    assert!((20..50).contains(&upright), "the cap takes from all classes: {upright}");
    assert_eq!(features(3), one);
    let all = |threads| examine::baselines(&opened, &train, &test, &probe(threads)).unwrap();
    let baselines = all(1);
    assert_eq!(all(2), baselines);
    for score in [baselines.random_init, baselines.raw_pixels, baselines.colour_histogram] {
        assert!((0.0..=100.0).contains(&score), "{baselines:?}");
    }
    assert!(baselines.colour_histogram < baselines.random_init, "colours tell nothing of stripes: {baselines:?}");
    let knn = examine::knn_of(&opened, &weights, &train, &test, &probe(2)).unwrap();
    assert!(knn > 60.0, "{knn}");
}

#[test]
fn random_init_has_the_runs_first_weights_and_statistics_of_the_images() {
    let (run, sets) = (Run::new(), sets(64));
    let opened = examine::Run::open(run.place()).unwrap();
    let (train, test) = (open_source(&sets.train).unwrap(), open_source(&sets.test).unwrap());
    let exam = Exam::new(&train, &test, &Probe { threads: 2, ..Probe::of(opened.recipe()) }).unwrap();
    let units = examine::random_init(&exam, opened.job()).unwrap();
    let model = opened.job().model();
    let mut measured = 0;
    for (id, layout) in model.trunk().iter().enumerate() {
        let init = model.init(opened.job().settings().seed, UnitId(id as u32), 0..layout.unit.len());
        for tensor in &layout.unit.tensors {
            let (ours, first) = (&units[id][tensor.range()], &init[tensor.range()]);
            if tensor.name.contains("running_") {
                assert!(ours != first && ours.iter().all(|v| v.is_finite()), "{}", tensor.name);
                assert!(tensor.name.ends_with("mean") || ours.iter().all(|v| *v >= 0.0), "{}", tensor.name);
                measured += 1;
            } else {
                assert_eq!(ours, first, "{}", tensor.name);
            }
        }
    }
    assert!(measured > 8);
    // Each of two batches holds half of the images, both classes mixed: evaluation with their mean statistics comes near to training
    // mode on all images at once.
    let ours = exam.features(opened.job(), &units).unwrap().0.values;
    let batch =
        examples(&train, Probe::of(opened.recipe()).view, NonZeroUsize::new(128).unwrap(), NonZeroUsize::MIN).next().unwrap().unwrap();
    let device = opened.job().device();
    let mut x = Tensor::<4>::from_data(TensorData::new(batch.pixels, [128, 3, 16, 16]), device);
    for (layout, flat) in model.trunk().iter().zip(&units) {
        x = Pass::new(layout, flat, device, false, Norms::Measured(Arc::new(OneLane))).trunk(x);
    }
    let training: Vec<f32> = pool(x).into_data().try_into_vec().unwrap();
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference =
        norm(&mut ours.iter().zip(&training).map(|(a, b)| f64::from(a - b))) / norm(&mut training.iter().map(|v| f64::from(*v)));
    assert!(difference < 0.03, "{difference}");
}

#[test]
fn the_use_of_prototypes_is_counted_over_all_images() {
    let (run, sets) = (Run::new(), sets(20));
    run.save(10);
    std::fs::write(std::path::Path::new(&sets.train).join("no-label.jpg"), jpeg(0, 1)).unwrap();
    std::fs::write(std::path::Path::new(&sets.train).join("bad.jpg"), b"nothing").unwrap();
    let arguments = ["eval", "prototypes", "--run", run.place(), "--data", &sets.train];
    let told: serde_json::Value = serde_json::from_str(&succeed(&[&arguments[..], &["--json"]].concat())).unwrap();
    assert_eq!((told["images"].as_u64(), told["step"].as_u64()), (Some(41), Some(10)), "{told}");
    assert_eq!(told["left_out"]["unreadable"].as_array().unwrap().len(), 1);
    let text = succeed(&arguments);
    assert!(text.contains("41 images;") && text.contains("bad.jpg"), "{text}");

    // One prototype where the images are, all others on the far side: a collapse.
    let opened = examine::Run::open(run.place()).unwrap();
    let (_, mut weights) = opened.weights(None).unwrap();
    let model = opened.job().model();
    let id = model.prototypes_id().0 as usize;
    let source = open_source(&sets.train).unwrap();
    let probe = Probe::of(opened.recipe());
    let even = examine::prototype_use(opened.job(), &weights, &source, &probe).unwrap();
    assert!(even.entropy > 0.0 && even.unused < even.prototypes - 1, "{even:?}");
    let first = weights[id][..model.dim()].to_vec();
    let turned = |k| first.iter().map(move |v| if k == 0 { *v } else { -*v });
    weights[id] = Arc::new((0..model.count()).flat_map(turned).collect());
    let collapsed = examine::prototype_use(opened.job(), &weights, &source, &probe).unwrap();
    let sides = collapsed.prototypes - collapsed.unused;
    assert!(sides <= 2 && collapsed.entropy < even.entropy, "{collapsed:?}");
    assert!((0.5..=1.0).contains(&collapsed.largest), "{collapsed:?}");
}

#[derive(Debug)]
struct OneLane;

impl Sums for OneLane {
    fn sum(&self, values: Vec<f32>) -> Arc<Vec<f32>> {
        Arc::new(values)
    }
    fn lanes(&self) -> usize {
        1
    }
}

#[test]
fn a_file_of_weights_is_examined_without_a_run() {
    let sets = sets(20);
    let config = everstep::model::Config { trunk: everstep::model::Trunk::Named("toy".into()), ..Default::default() };
    let model = everstep::model::Model::new(&config).unwrap();
    let units: Vec<Arc<Vec<f32>>> =
        model.units().iter().zip(0..).map(|(unit, id)| Arc::new(model.init(3, UnitId(id), 0..unit.len()))).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("toy.safetensors");
    everstep::weights::export(&model, &units, 0, everstep::weights::Format::HuggingFace, &path).unwrap();
    let file = path.to_str().unwrap();
    let arguments =
        ["eval", "knn", "--weights", file, "--size", "24", "--train", &sets.train, "--test", &sets.test, "--k", "3", "--json", "--arch"];
    let knn: serde_json::Value = serde_json::from_str(&succeed(&[&arguments[..], &["toy"]].concat())).unwrap();
    assert_eq!((knn["run"].as_str(), knn["step"].is_null(), knn["test"].as_u64()), (Some(file), true, Some(40)));
    assert!(knn["top1"].as_f64().unwrap() > 65.0, "{knn}");
    let wrong = fail(&[&arguments[..], &["regnet_y_400mf"]].concat(), ExitCode::Config as i32);
    assert!(wrong.contains("its stages are [32, 64, 128] channels wide, the model's [48, 104, 208, 440]"), "{wrong}");
    let unknown = fail(&[&arguments[..], &["resnet50"]].concat(), ExitCode::Config as i32);
    assert!(unknown.starts_with("--arch resnet50: `model.trunk` is \"resnet50\", which names no trunk"), "{unknown}");
}
