//! Shapes, counts and starting values of whole models.

use super::*;

fn named(name: &str) -> Config {
    Config { trunk: Trunk::Named(name.into()), ..Config::default() }
}

#[test]
fn ten_billion_are_laid_out_without_a_weight() {
    let config = Config { head: vec![8192, 8192, 256], head_bn: false, prototypes: 16_000, ..named("seer_10b") };
    let model = Model::new(&config).unwrap();
    let head = parameters(&model.head().unit) + parameters(&model.prototypes().unit);
    assert_eq!(head, 304_988_416);
    assert_eq!(model.units().iter().map(parameters).sum::<usize>(), 9_628_923_288);
    let last = UnitId(model.units().len() as u32 - 1);
    assert_eq!(model.units()[last.0 as usize].row, 256);
    assert_eq!(model.init(1, last, 4_000_000..4_000_256).len(), 256);
}

#[test]
fn units_are_merged_up_to_the_minimum() {
    let one = Model::new(&Config { unit_min: usize::MAX, ..Config::default() }).unwrap();
    assert_eq!(one.trunk().len(), 1);
    let all = Model::new(&Config { unit_min: 1, ..Config::default() }).unwrap();
    let names: Vec<_> = all.units().iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names, ["stem", "s1.b1", "s2.b1", "s2.b2", "s3.b1", "head", "prototypes"]);
    let some = Model::new(&Config { unit_min: 10_000, ..Config::default() }).unwrap();
    assert!(some.trunk().iter().all(|l| parameters(&l.unit) >= 10_000) && some.trunk().len() > 1);
    let size = |m: &Model| m.units().iter().map(Unit::len).sum::<usize>();
    assert_eq!(size(&one), size(&all));
}

#[test]
fn tensors_lie_without_gaps_and_buffers_come_last() {
    for unit in Model::new(&named("regnet_y_400mf")).unwrap().units() {
        let mut at = 0;
        for tensor in &unit.tensors {
            assert_eq!(tensor.offset, at);
            at += tensor.len();
        }
        let first = unit.tensors.iter().position(|t| t.kind == TensorKind::Buffer).unwrap_or(unit.tensors.len());
        assert!(unit.tensors[first..].iter().all(|t| t.kind == TensorKind::Buffer));
    }
}

#[test]
fn values_do_not_depend_on_how_units_are_cut() {
    let start = |config: &Config| -> std::collections::BTreeMap<String, Vec<f32>> {
        let model = Model::new(config).unwrap();
        let units = model.units().iter().enumerate();
        units
            .flat_map(|(id, unit)| {
                let all = model.init(5, UnitId(id as u32), 0..unit.len());
                let half = unit.len() / 3;
                let mut cut = model.init(5, UnitId(id as u32), 0..half);
                cut.extend(model.init(5, UnitId(id as u32), half..unit.len()));
                assert_eq!(cut, all);
                unit.tensors.iter().map(|t| (t.name.clone(), all[t.range()].to_vec())).collect::<Vec<_>>()
            })
            .collect()
    };
    let (merged, single) = (start(&Config::default()), start(&Config { unit_min: 1, ..Config::default() }));
    assert_eq!(merged, single);
    assert!(merged["stem.bn.running_var"].iter().all(|v| *v == 1.0));
    let std = (merged["s3.b1.conv1.conv.weight"].iter().map(|v| v * v).sum::<f32>() / (128.0 * 64.0)).sqrt();
    assert!((std - 0.125).abs() < 0.005, "{std}");
}

#[test]
fn bad_keys_are_named() {
    for (config, key) in [
        (Config { head: vec![], ..Config::default() }, "head"),
        (Config { prototypes: 1, ..Config::default() }, "prototypes"),
        (Config { stem_stride: 0, ..Config::default() }, "stem_stride"),
        (Config { se_ratio: f64::NAN, ..Config::default() }, "se_ratio"),
        (named("resnet"), "trunk"),
    ] {
        let error = Model::new(&config).unwrap_err().to_string();
        assert!(error.starts_with(&format!("model.{key}")), "{error}");
    }
}

/// Adds nothing: a lane by itself.
#[derive(Debug)]
struct Single;

impl ops::batch_norm::Sums for Single {
    fn sum(&self, values: Vec<f32>) -> Arc<Vec<f32>> {
        Arc::new(values)
    }
    fn lanes(&self) -> usize {
        1
    }
}

#[test]
fn forward_agrees_with_torchvision_and_timm() {
    let fixture = filler::fixture("model_forward.safetensors");
    for (name, size) in [("toy", 32), ("regnet_y_400mf", 64)] {
        let model = Model::new(&named(name)).unwrap();
        let weights = filler::units(&model);
        let shape = [3, 3, size, size];
        let images = filler::fill(&format!("input.{name}"), &shape);
        let device = filler::device();
        let eval = model.features(&weights, images.clone(), shape, &device);
        let distance = filler::distance(&eval, &filler::tensor(&fixture, &format!("{name}.eval")));
        assert!(distance < 1e-4, "{name} in evaluation: {distance:e}");

        let mut x = Tensor::<4>::from_data(TensorData::new(images, shape), &device);
        for (layout, flat) in model.trunk().iter().zip(&weights) {
            x = Pass::new(layout, flat, &device, false, Norms::Measured(Arc::new(Single))).trunk(x);
        }
        let distance = filler::distance(&values(ops::pool(x)), &filler::tensor(&fixture, &format!("{name}.train")));
        assert!(distance < 1e-4, "{name} in training: {distance:e}");
    }
}

/// Eight networks of six sizes, both roundings: the first features of four images, and the norm of all.
#[test]
fn forward_of_the_family_agrees_with_torchvision_and_timm() {
    let fixture = filler::fixture("model_family.safetensors");
    let listed = [
        ("regnet_y_400mf", Rounding::Classy, "classy"),
        ("regnet_y_800mf", Rounding::Classy, "classy"),
        ("regnet_y_800mf", Rounding::Torchvision, "torchvision"),
        ("regnet_y_1_6gf", Rounding::Classy, "classy"),
        ("regnet_y_3_2gf", Rounding::Classy, "classy"),
        ("regnet_y_8gf", Rounding::Classy, "classy"),
        ("regnet_y_8gf", Rounding::Torchvision, "torchvision"),
        ("regnet_y_16gf", Rounding::Torchvision, "torchvision"),
    ];
    let device = filler::device();
    for (name, rounding, word) in listed {
        let key = format!("{name}.{word}");
        let model = Model::new(&Config { rounding, ..named(name) }).unwrap();
        let shape = [4, 3, 64, 64];
        let images = filler::fill(&format!("input.{key}"), &shape);
        let (mut eval, mut train) = (Tensor::<4>::from_data(TensorData::new(images.clone(), shape), &device), None);
        for layout in model.trunk() {
            // One unit's weights at a time.
            let mut flat: Vec<f32> = layout.unit.tensors.iter().flat_map(|t| filler::fill(&t.name, &t.shape)).collect();
            let variances = layout.unit.tensors.iter().filter(|t| t.name.ends_with("running_var"));
            variances.for_each(|t| flat[t.range()].iter_mut().for_each(|v| *v *= 4.0));
            let x = train.unwrap_or_else(|| Tensor::from_data(TensorData::new(images.clone(), shape), &device));
            train = Some(Pass::new(layout, &flat, &device, false, Norms::Measured(Arc::new(Single))).trunk(x));
            eval = Pass::new(layout, &flat, &device, false, Norms::Running).trunk(eval);
        }
        for (mode, map) in [("eval", eval), ("train", train.unwrap())] {
            let features = values(ops::pool(map));
            let first: Vec<f32> = features.chunks_exact(model.width()).flat_map(|row| row[..64].to_vec()).collect();
            let off = filler::distance(&first, &filler::tensor(&fixture, &format!("{key}.{mode}")));
            assert!(off < 1e-4, "{key} in {mode}: {off:e}");
            let norm = features.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
            let off = filler::distance(&[norm], &filler::tensor(&fixture, &format!("{key}.{mode}.norm")));
            assert!(off < 1e-4, "{key} in {mode}: norm {norm}, off by {off:e}");
        }
    }
}
