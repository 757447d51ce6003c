//! Files as PyTorch programs write and expect them.

use std::collections::BTreeMap;

use ::safetensors::SafeTensors;
use everstep_actors::protocol::ids::UnitId;

use super::*;
use crate::model::regnet::Stages;
use crate::model::{Config, Rounding, Trunk, filler};

fn named_model(name: &str, rounding: Rounding) -> Model {
    Model::new(&Config { trunk: Trunk::Named(name.into()), rounding, ..Config::default() }).unwrap()
}

/// The net of `tests/reference/weights.py`.
fn small() -> Config {
    Config {
        trunk: Trunk::Stages(Stages { widths: vec![8], depths: vec![2], group_width: 8 }),
        stem_width: 8,
        head: vec![6, 4],
        head_bn: false,
        prototypes: 5,
        unit_min: 1,
        ..Config::default()
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/fixtures/weights").join(name)
}

fn units(weights: &Weights, model: &Model) -> Vec<Option<Vec<f32>>> {
    (0..model.units().len() as u32).map(|unit| weights.unit(UnitId(unit)).unwrap()).collect()
}

const FORMATS: [Format; 4] = [Format::Timm, Format::Torchvision, Format::HuggingFace, Format::Vissl];

#[test]
fn names_shapes_and_types_are_those_of_the_libraries() {
    let listed: BTreeMap<String, BTreeMap<String, (String, Vec<usize>)>> =
        serde_json::from_slice(&filler::fixture("model_names.json")).unwrap();
    let model = named_model("regnet_y_400mf", Rounding::Classy);
    let folder = tempfile::tempdir().unwrap();
    for (format, name) in [(Format::Timm, "timm"), (Format::Torchvision, "torchvision")] {
        let path = folder.path().join("w.safetensors");
        export(&model, &filler::units(&model), 7, format, &path).unwrap();
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
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing partial is left");
}

/// transformers' own file has the tensors that are exported for it, byte for byte.
#[test]
fn an_export_for_transformers_is_the_file_that_transformers_writes() {
    let model = Model::new(&small()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    export(&model, &filler::units(&model), 0, Format::HuggingFace, &path).unwrap();
    let (ours, theirs) = (std::fs::read(&path).unwrap(), std::fs::read(fixture("hugging_face.safetensors")).unwrap());
    let (ours, theirs) = (SafeTensors::deserialize(&ours).unwrap(), SafeTensors::deserialize(&theirs).unwrap());
    assert_eq!(ours.names().len(), theirs.names().len());
    for (name, view) in theirs.iter() {
        let ours = ours.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((ours.dtype(), ours.shape(), ours.data()), (view.dtype(), view.shape(), view.data()), "{name}");
    }
}

#[test]
fn what_is_written_comes_back_bit_for_bit_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    for head_bn in [false, true] {
        let model = Model::new(&Config { head_bn, unit_min: 500, ..small() }).unwrap();
        let written = filler::units(&model);
        for format in FORMATS {
            export(&model, &written, 7, format, &path).unwrap();
            let read = Weights::open(&model, &path).unwrap();
            assert_eq!(read.format(), format);
            let with_head = format == Format::Vissl;
            assert_eq!(*read.head(), if with_head { Head::Fits } else { Head::Absent });
            for (id, (unit, written)) in units(&read, &model).into_iter().zip(&written).enumerate() {
                let wanted = (with_head || id < model.trunk().len()).then(|| written.to_vec());
                assert_eq!(unit, wanted, "{format:?}, unit {id}");
            }
        }
    }
}

#[test]
fn files_of_transformers_and_all_layouts_of_vissl_are_read() {
    let model = Model::new(&small()).unwrap();
    let wanted = filler::units(&model);
    for (file, format, head) in [
        ("hugging_face.safetensors", Format::HuggingFace, false),
        ("whole.torch", Format::Vissl, true),
        ("sharded.torch", Format::Vissl, true),
        ("sliced.torch", Format::Vissl, true),
    ] {
        let weights = Weights::open(&model, &fixture(file)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((weights.format(), weights.head()), (format, if head { &Head::Fits } else { &Head::Absent }), "{file}");
        for (id, unit) in units(&weights, &model).into_iter().enumerate() {
            let wanted = (head || id < model.trunk().len()).then(|| wanted[id].to_vec());
            assert_eq!(unit, wanted, "{file}, unit {id}");
        }
    }
    let half = Weights::open(&model, &fixture("half.torch")).unwrap();
    for (unit, wanted) in units(&half, &model).into_iter().flatten().zip(&wanted) {
        assert!(unit.iter().zip(wanted.iter()).all(|(a, b)| (a - b).abs() <= b.abs() * 5e-4 + 1e-7), "half precision, old container");
    }
}

#[test]
fn a_folder_and_an_index_of_several_files_are_one() {
    let model = Model::new(&small()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(fixture("hugging_face.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut map = serde_json::Map::new();
    for part in 0..2 {
        let name = format!("model-0000{part}-of-00002.safetensors");
        let mine: Vec<_> = file.iter().enumerate().filter(|(at, _)| at % 2 == part).map(|(_, tensor)| tensor).collect();
        map.extend(mine.iter().map(|(tensor, _)| ((*tensor).to_owned(), name.clone().into())));
        ::safetensors::serialize_to_file(mine, None, &folder.path().join(name)).unwrap();
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let weights = Weights::open(&model, folder.path()).unwrap();
    assert_eq!(weights.unit(UnitId(0)).unwrap().unwrap(), *filler::units(&model)[0]);
}

#[test]
fn the_other_rounding_is_recognised_and_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let classy = named_model("regnet_y_800mf", Rounding::Classy);
    export(&classy, &filler::units(&classy), 0, Format::Timm, &path).unwrap();
    let error = Weights::open(&named_model("regnet_y_800mf", Rounding::Torchvision), &path).unwrap_err().to_string();
    assert!(error.contains("[64, 128, 320, 768]") && error.ends_with("set model.rounding = \"seer\""), "{error}");

    let torchvision = named_model("regnet_y_800mf", Rounding::Torchvision);
    export(&torchvision, &filler::units(&torchvision), 0, Format::HuggingFace, &path).unwrap();
    let error = Weights::open(&classy, &path).unwrap_err().to_string();
    assert!(error.contains("[64, 144, 320, 784]") && error.ends_with("set model.rounding = \"torchvision\""), "{error}");

    let error = Weights::open(&named_model("regnet_y_400mf", Rounding::Classy), &path).unwrap_err().to_string();
    assert!(error.contains("the model's [48, 104, 208, 440]") && !error.contains("rounding"), "{error}");
}

#[test]
fn another_head_is_told_and_the_trunk_taken() {
    let model = Model::new(&Config { prototypes: 6, ..small() }).unwrap();
    let weights = Weights::open(&model, &fixture("whole.torch")).unwrap();
    assert!(
        matches!(weights.head(), Head::Other(what) if what.contains("prototypes0.weight is [5, 4] where [6, 4]")),
        "{:?}",
        weights.head()
    );
    assert!(weights.unit(UnitId(0)).unwrap().is_some() && weights.unit(model.head_id()).unwrap().is_none());
}

#[test]
fn wrong_files_are_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let toy = named_model("toy", Rounding::Classy);
    let error = Weights::open(&toy, &path).unwrap_err();
    assert!(matches!(error, WeightsError::File { .. }) && error.to_string().contains("w.safetensors"));

    export(&toy, &filler::units(&toy), 0, Format::Timm, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(Weights::open(&toy, &path), Err(WeightsError::Damaged { .. })));
    std::fs::write(&path, b"\x7f\x00\x00\x00\x00\x00\x00\x7f{").unwrap();
    let error = Weights::open(&toy, &path).unwrap_err().to_string();
    assert!(error.contains("claims 9151314442816847999 bytes"), "{error}");
    std::fs::write(&path, b"no weights").unwrap();
    assert!(matches!(Weights::open(&toy, &path), Err(WeightsError::Damaged { .. })));

    // One shard of three is gone.
    for name in ["sharded.torch", "sharded_shard0.torch", "sharded_shard1.torch"] {
        std::fs::copy(fixture(name), folder.path().join(name)).unwrap();
    }
    let error = Weights::open(&Model::new(&small()).unwrap(), &folder.path().join("sharded.torch")).unwrap_err().to_string();
    assert!(error.contains("sharded_shard2.torch"), "{error}");

    let nowhere = folder.path().join("missing").join("w.safetensors");
    assert!(matches!(export(&toy, &filler::units(&toy), 0, Format::Timm, &nowhere), Err(WeightsError::File { .. })));
}

/// A hundred bytes of pickle may say a pair of a pair of a pair: what that would unpack to is refused before it is there.
#[test]
fn a_pickle_that_doubles_itself_again_and_again_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let (twice, remembered): (&[u8], &[u8]) = (b"2\x86", b"q\x00h\x00\x86");
    for doubled in [twice, remembered] {
        std::fs::write(&path, [b"\x80\x02}".as_slice(), &doubled.repeat(48), b"."].concat()).unwrap();
        let error = Weights::open(&named_model("toy", Rounding::Classy), &path).unwrap_err();
        assert!(matches!(error, WeightsError::Damaged { .. }) && error.to_string().contains("w.pth"), "{error}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    #[test]
    fn any_damage_to_a_checkpoint_is_an_error_or_its_values(at in 0usize..40_000, byte: u8, cut in 0usize..40_000) {
        let mut bytes = std::fs::read(fixture("whole.torch")).unwrap();
        let len = bytes.len();
        bytes[at % len] ^= byte;
        bytes.truncate(if cut % 4 == 0 { cut % len } else { len });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.torch");
        std::fs::write(&path, bytes).unwrap();
        let model = Model::new(&small()).unwrap();
        if let Ok(weights) = Weights::open(&model, &path) {
            (0..model.units().len() as u32).for_each(|unit| drop(weights.unit(UnitId(unit))));
        }
    }
}
