//! The work of the benches of a step: two nets, and crops that no image was decoded for.

use everstep::config::{Override, Recipe};
use everstep::data::LaneCrops;
use everstep::setup;

/// A recipe of one lane of 32 images with crops of 2×96 and 4×48, as the peer has it.
const LARGER: &str = "
run.steps = 860
data.train = \"none\"
batch = { lanes = 1, images_per_lane = 32 }
cluster.ranks = 1
swav = { epsilon = 0.03, iterations = 3, freeze_prototypes = 0 }
[model]
trunk = \"regnet_y_400mf\"
head = [512, 128]
prototypes = 3000
[[crops.group]]
count = 2
size = 96
scale = [0.14, 1.0]
[[crops.group]]
count = 4
size = 48
scale = [0.05, 0.14]
";

/// The small net of `configs/cifar10.toml` on 128 images, and `regnet_y_400mf` on 32.
pub(crate) fn recipes(overrides: &[String]) -> [(&'static str, Recipe); 2] {
    let small = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/cifar10.toml");
    let small = Recipe::load(small, overrides).expect("the recipe loads");
    let overrides: Vec<Override> = overrides.iter().map(|text| Override::parse(text).expect("key=value")).collect();
    let larger = Recipe::from_text("regnet_y_400mf", LARGER, &overrides).expect("the recipe loads");
    [("tiny", small), ("400mf", larger)]
}

/// The crops of a lane.
pub(crate) fn crops(recipe: &Recipe, lane: u32) -> LaneCrops {
    let mut crops = LaneCrops::zeros(&setup::crop_recipe(&recipe.crops), recipe.batch.images_per_lane as usize);
    for (i, value) in crops.groups.iter_mut().flat_map(|group| &mut group.pixels).enumerate() {
        *value = ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(lane) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    crops
}
