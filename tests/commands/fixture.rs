//! A run folder as training leaves it, and images with labels.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use everstep::config::Recipe;
use everstep::setup;
use everstep::train::Swav;
use everstep_actors::checkpoint::{Digest, Draft, Manifest, SnapshotShard, assemble, part, publish};
use everstep_actors::protocol::ids::{Epoch, Step};
use everstep_actors::protocol::shard::{UnitShape, cut};
use everstep_actors::store::Store;
use everstep_actors::workload::Workload as _;
use tempfile::TempDir;

pub(crate) const RECIPE: &str = r#"
[run]
steps = 100
[data]
train = "train"
[batch]
lanes = 2
images_per_lane = 8
[[crops.group]]
count = 2
size = 16
scale = [0.14, 1.0]
[model]
stem_stride = 2
head = [16, 8]
prototypes = 12
[model.stages]
widths = [16, 32]
depths = [1, 1]
group_width = 8
[swav]
freeze_prototypes = 1
"#;

/// A run in a folder of its own.
pub(crate) struct Run {
    pub(crate) folder: TempDir,
    pub(crate) job: Swav,
}

impl Run {
    /// With its recipe and nothing else.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe::from_text("recipe.toml", RECIPE, &[]).unwrap();
        std::fs::write(folder.path().join("recipe.toml"), recipe.resolved().unwrap()).unwrap();
        Self { job: setup::workload(&recipe, 100).unwrap(), folder }
    }

    pub(crate) fn place(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// The value at a place of a unit in the checkpoint of a step.
    pub(crate) fn value(&self, step: u64, unit: usize, at: usize) -> f32 {
        let init = self.job.init(everstep_actors::protocol::ids::UnitId(unit as u32), at..at + 1)[0];
        init + step as f32 * 1e-6
    }

    /// Publishes a checkpoint whose values depend on the step, in several shards a unit.
    pub(crate) fn save(&self, step: u64) -> Manifest {
        let units = self.job.units();
        let shapes: Vec<UnitShape> = units.iter().map(|unit| UnitShape { length: unit.len(), row: unit.row }).collect();
        let store = Store::open(self.place()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut records = Vec::new();
            for shard in cut(&shapes, 1000) {
                let unit = shard.id.unit;
                let mut values = self.job.init(unit, shard.range.clone());
                values.iter_mut().for_each(|value| *value += step as f32 * 1e-6);
                let slots = Arc::new(vec![vec![step as f32; values.len()]]);
                let snapshot = SnapshotShard { id: shard.id, start: shard.range.start, values: Arc::new(values), slots };
                records.push(part::write(&store, "run", Step(step), &units[unit.0 as usize], snapshot).await.unwrap());
            }
            assert!(records.len() > units.len(), "some units have several shards");
            let config = Digest::of(b"config");
            let draft = Draft { run: "run".into(), config, epoch: Epoch(1), step: Step(step), units: units.to_vec(), slots: 1 };
            let manifest = assemble(draft, records).unwrap();
            publish(&store, &manifest).await.unwrap();
            manifest
        })
    }

    /// Flips one bit in the middle of the values of a part; returns the part's file name.
    pub(crate) fn corrupt(&self, manifest: &Manifest, part: usize) -> String {
        let path = self.folder.path().join(&manifest.parts[part].key);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() * 3 / 4;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        path.file_name().unwrap().to_str().unwrap().to_owned()
    }
}

/// Runs the program; stdout, stderr, exit code.
pub(crate) fn everstep(arguments: &[&str]) -> (String, String, i32) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_everstep")).args(arguments).stdin(Stdio::null()).output().unwrap();
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code().unwrap())
}

/// Runs a command that must succeed; its stdout.
pub(crate) fn succeed(arguments: &[&str]) -> String {
    let (stdout, stderr, code) = everstep(arguments);
    assert_eq!(code, 0, "{arguments:?}: {stderr}");
    stdout
}

/// Runs a command that must fail with a code: nothing on stdout, one sentence on stderr, which is returned.
pub(crate) fn fail(arguments: &[&str], expected: i32) -> String {
    let (stdout, stderr, code) = everstep(arguments);
    assert_eq!((stdout.as_str(), code), ("", expected), "{arguments:?}: {stderr}");
    sentence(&stderr)
}

/// The one line of stderr without its `error: `.
pub(crate) fn sentence(stderr: &str) -> String {
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end().strip_prefix("error: ").unwrap_or_else(|| panic!("{stderr}")).to_owned()
}

/// A JPEG of stripes: class 0 upright, class 1 lying, with noise; `number` decides colours and noise.
pub(crate) fn jpeg(class: usize, number: u32) -> Vec<u8> {
    let mut state = number.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let shift = u32::from(random()) % 6;
    let colour = [random(), random(), random()];
    let image = image::RgbImage::from_fn(24, 24, |x, y| {
        let along = if class == 0 { x } else { y };
        let light = (along + shift) / 3 % 2 == 0;
        image::Rgb(colour.map(|c| (if light { c / 2 + 120 } else { c / 2 }).saturating_add(random() / 8)))
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// A folder with a folder for each name, `each` images in it; `first` numbers the images.
pub(crate) fn images(root: &Path, names: &[&str], each: u32, first: u32) -> PathBuf {
    for (class, name) in names.iter().enumerate() {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..each {
            std::fs::write(folder.join(format!("{number:03}.jpg")), jpeg(class % 2, first + number * 2 + class as u32)).unwrap();
        }
    }
    root.to_owned()
}
