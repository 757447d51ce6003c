//! Files as PyTorch programs expect them.

use std::collections::BTreeMap;

use super::*;
use crate::model::{Config, Trunk, filler};

fn model(name: &str) -> Model {
    Model::new(&Config { trunk: Trunk::Named(name.into()), ..Config::default() }).unwrap()
}

#[test]
fn names_shapes_and_types_are_those_of_the_libraries() {
    let listed: BTreeMap<String, BTreeMap<String, (String, Vec<usize>)>> =
        serde_json::from_slice(&filler::fixture("model_names.json")).unwrap();
    let model = model("regnet_y_400mf");
    let units = filler::units(&model);
    let folder = tempfile::tempdir().unwrap();
    for (format, name) in [(Format::Timm, "timm"), (Format::Torchvision, "torchvision")] {
        let path = folder.path().join("w.safetensors");
        export(&model, &units, 7, format, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let ours: BTreeMap<String, (String, Vec<usize>)> = file
            .iter()
            .map(|(name, view)| {
                let dtype = if view.dtype() == Dtype::I64 { "int64" } else { "float32" };
                (name.to_owned(), (dtype.to_owned(), view.shape().to_vec()))
            })
            .collect();
        assert_eq!(ours, listed[name], "{name}");
        assert_eq!(import(&model, &path).unwrap(), units[..model.trunk().len()].iter().map(|u| u.to_vec()).collect::<Vec<_>>());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing partial is left");
}

#[test]
fn wrong_files_are_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let toy = model("toy");
    let error = import(&toy, &path).unwrap_err();
    assert!(matches!(error, WeightsError::File { .. }) && error.to_string().contains("w.safetensors"));

    export(&toy, &filler::units(&toy), 0, Format::Timm, &path).unwrap();
    let error = import(&model("regnet_y_400mf"), &path).unwrap_err();
    assert!(error.to_string().contains("s1.b1.downsample.conv.weight"), "{error}");

    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(import(&toy, &path), Err(WeightsError::Damaged { .. })));

    let nowhere = folder.path().join("missing").join("w.safetensors");
    assert!(matches!(export(&toy, &filler::units(&toy), 0, Format::Timm, &nowhere), Err(WeightsError::File { .. })));
}
