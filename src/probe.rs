//! The start-up probe: a short computation whose bits tell like hardware from unlike.
//!
//! One step of a small net from a fixed seed (convolutions, batch norm, exp, Sinkhorn, backward)
//! on crops cut from a drawn image. Nodes whose digests differ would train to different bits.

use std::sync::Arc;

use everstep_actors::alone::Alone;
use everstep_actors::checkpoint::Digest;
use everstep_actors::protocol::ids::{Lane, Step, UnitId};
use everstep_actors::workload::{Batch, Peers, Workload};

use crate::cli::{ExitCode, Failure};
use crate::config::Recipe;
use crate::data::augment::{CropSeed, Cropper};
use crate::data::decode::Rgb;
use crate::data::{Crops, LaneCrops};
use crate::setup;

const RECIPE: &str = "
run.steps = 10
cluster.ranks = 1
data.train = \"probe\"
batch = { lanes = 1, images_per_lane = 4 }
swav = { epsilon = 0.03, iterations = 3, freeze_prototypes = 0 }
[[crops.group]]
count = 2
size = 32
scale = [0.2, 1.0]
[model]
head = [32, 16]
prototypes = 24
stages = { widths = [16, 32], depths = [1, 1], group_width = 8 }
";

/// The digest of this machine's arithmetic on a device.
///
/// # Errors
/// The device cannot compute the probe.
pub fn digest(device: &str, runtime: &tokio::runtime::Handle) -> Result<String, Failure> {
    let internal = |what: &dyn std::fmt::Display| Failure::new(ExitCode::Internal, format!("the start-up probe failed: {what}"));
    let mut recipe = Recipe::from_text("probe", RECIPE, &[])?;
    device.clone_into(&mut recipe.device.name);
    let job = Arc::new(setup::workload(&recipe, 10)?);
    let units: Vec<Arc<Vec<f32>>> =
        job.units().iter().enumerate().map(|(unit, spec)| Arc::new(job.init(UnitId(unit as u32), 0..spec.len()))).collect();
    let hub = Alone::new(1, units);
    let batch = Batch { samples: vec![0, 1, 2, 3], data: Box::new(crops(&setup::crop_recipe(&recipe.crops))) };
    let peers = Peers::new(Step(0), Lane(0), hub.clone(), runtime.clone());
    job.step(Step(0), batch, peers).map_err(|error| internal(&error))?;
    let mut bytes = Vec::new();
    for gradient in hub.gradients().values() {
        bytes.extend(gradient.iter().flat_map(|value| value.to_le_bytes()));
    }
    Ok(Digest::of(&bytes).to_string())
}

/// Crops of a drawn image: the whole way of an image but its file.
fn crops(recipe: &Crops) -> LaneCrops {
    const SIDE: u32 = 48;
    let pixels = (0..SIDE * SIDE * 3).map(|i| ((i * 37) ^ (i / 144 * 91)) as u8).collect();
    let image = Rgb { width: SIDE, height: SIDE, pixels };
    let mut lane = LaneCrops::zeros(recipe, 4);
    let mut cropper = Cropper::default();
    for slot in 0..4 {
        cropper.crops(&image, recipe, CropSeed { seed: 1, pass: 0, sample: slot as u64 }, &mut lane, slot);
    }
    lane
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_has_the_same_bits_twice() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let first = digest("flex", runtime.handle()).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(first, digest("flex", runtime.handle()).unwrap());
        assert!(digest("abacus", runtime.handle()).is_err());
    }
}
