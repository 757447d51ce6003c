//! From a recipe to the parts of a run: what the sections mean to the rooms that they are for.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use everstep_actors::protocol::coordinator::{Care, OnBadStep};
use everstep_actors::protocol::shard::default_shard_values;
use everstep_actors::workload::{Dtype, Workload as _};

use crate::cli::{ExitCode, Failure};
use crate::config::{self, Named, Recipe};
use crate::data::augment::recipe as crops;
use crate::data::decode::DecodeLimits;
use crate::data::examples::{Fit, View};
use crate::data::loader::OnBad;
use crate::data::{Crops, Loader, LoaderOptions, Source};
#[cfg(feature = "tch")]
use crate::libtorch;
use crate::model::{self, Model, regnet};
use crate::optim;
use crate::planning::placement;
use crate::swav::sinkhorn;
use crate::train::multicrop::{Multicrop, Size};
use crate::train::objective::SwappedPrediction;
use crate::train::optimizer::Larc;
use crate::train::precision::Precision;
use crate::train::{Settings, Swav, queue};
use crate::weights::{Head, Weights};

/// Gathered values that a rank keeps within a step: 256 MiB.
pub const GATHERED_VALUES_MAX: usize = 64 << 20;

/// The training job of a recipe that runs for `steps` steps.
///
/// # Errors
/// A model that cannot be built, a device that is not there.
pub fn workload(recipe: &Recipe, steps: u64) -> Result<Swav, Failure> {
    workload_with(recipe, steps, recompute(recipe)?, device(&recipe.device.name)?)
}

/// The training job of a recipe for those who read its weights: where this build or machine lacks the recipe's device, evaluations run on flex.
///
/// # Errors
/// A model that cannot be built.
pub fn reading(recipe: &Recipe) -> Result<Swav, Failure> {
    // The number of steps shapes the schedule alone, which readers do not follow.
    let steps = recipe.run.steps.unwrap_or(1);
    workload_with(recipe, steps, recompute(recipe)?, device(&recipe.device.name).unwrap_or_else(|_| Device::flex()))
}

/// The same with another memory plan or device than the recipe's.
///
/// # Errors
/// A model that cannot be built.
pub fn workload_with(recipe: &Recipe, steps: u64, recompute: model::Recompute, device: Device) -> Result<Swav, Failure> {
    let settings = Settings {
        model: model_config(&recipe.model),
        recompute,
        seed: recipe.run.seed,
        lanes: recipe.batch.lanes,
        batch: recipe.batch.images_per_lane as usize,
        crops: multicrop(&recipe.crops),
        queue: queue(recipe, steps),
        precision: precision(&recipe.device),
    };
    let model = Model::new(&settings.model).map_err(|error| Failure::new(ExitCode::Config, error))?;
    let objective = SwappedPrediction {
        temperature: recipe.swav.temperature as f32,
        sinkhorn: sinkhorn::Settings { epsilon: recipe.swav.epsilon as f32, iterations: recipe.swav.iterations },
        assign: recipe.swav.assign as usize,
    };
    let optimizer = Larc { config: optimizer(recipe), steps, prototypes: model.prototypes().unit.name.clone(), dim: model.dim() };
    Swav::new(settings, Box::new(objective), Box::new(optimizer), device).map_err(|error| Failure::new(ExitCode::Config, error))
}

/// A recipe's job as training begins it: from `model.init` if there is one. `talk` is told what the file holds.
///
/// # Errors
/// As [`workload`]; [`ExitCode::Config`] when the file cannot be read or holds another trunk.
pub fn beginning(recipe: &Recipe, steps: u64, talk: &dyn Fn(String)) -> Result<Swav, Failure> {
    let job = workload(recipe, steps)?;
    let Some(file) = &recipe.model.init else { return Ok(job) };
    let weights = Weights::open(job.model(), Path::new(file)).map_err(|error| Failure::new(ExitCode::Config, error))?;
    talk(match weights.head() {
        Head::Fits => format!("trunk, head and prototypes begin from {file}"),
        Head::Absent => format!("the trunk begins from {file}, which has no projection head"),
        Head::Other(what) => format!("the trunk begins from {file}, the head does not: {what}"),
    });
    Ok(job.beginning_from(weights))
}

/// The kinds of numbers of `[device]`.
fn precision(section: &config::Device) -> Precision {
    let dtype = |precision| match precision {
        config::Precision::F32 => Dtype::F32,
        config::Precision::Bf16 => Dtype::BF16,
        config::Precision::F16 => Dtype::F16,
    };
    Precision { compute: dtype(section.precision), gather: dtype(section.gather), reduce: dtype(section.reduce) }
}

/// The queue of a recipe whose run has `steps` steps.
fn queue(recipe: &Recipe, steps: u64) -> Option<queue::Config> {
    let section = &recipe.swav;
    let start = (section.queue_start * steps as f64).ceil() as u64;
    let random = section.queue_begin == config::QueueBegin::Random;
    (section.queue > 0).then_some(queue::Config { images: section.queue as usize, start, crops: section.assign as usize, random })
}

/// The device of a name.
///
/// # Errors
/// This build or this machine has no such device.
pub fn device(name: &str) -> Result<Device, Failure> {
    let unknown = || Failure::new(ExitCode::Config, format!("`device.name` is \"{name}\", which is no device: use \"flex\""));
    match config::named(name).ok_or_else(unknown)? {
        Named::Flex => Ok(Device::flex()),
        #[cfg(feature = "tch")]
        Named::LibtorchCpu => libtorch::cpu().map_err(|error| Failure::new(ExitCode::Config, error)),
        #[cfg(feature = "tch")]
        Named::LibtorchCuda(index) => libtorch::cuda(index.unwrap_or_default()).map_err(|error| Failure::new(ExitCode::Config, error)),
        #[cfg(not(feature = "tch"))]
        Named::LibtorchCpu | Named::LibtorchCuda(_) => {
            let what =
                format!("`device.name` is \"{name}\", but this build has no libtorch: run ./libtorch.sh and build with --features tch");
            Err(Failure::new(ExitCode::Config, what))
        }
    }
}

/// The recipe of the rank in place `slot` of its machine: of `libtorch:cuda` it gets the CUDA device of its own.
pub fn settled(mut recipe: Recipe, slot: u32) -> Recipe {
    if config::named(&recipe.device.name) == Some(Named::LibtorchCuda(None)) {
        recipe.device.name = format!("libtorch:cuda:{}", slot as usize % cuda_devices().max(1));
    }
    recipe
}

/// CUDA devices of this machine that this build can use.
fn cuda_devices() -> usize {
    #[cfg(feature = "tch")]
    return libtorch::cuda_devices();
    #[cfg(not(feature = "tch"))]
    0
}

/// What is done about results that may be wrong, from `[guard]` and `[audit]`.
pub fn care(recipe: &Recipe) -> Care {
    let on_bad_step = match recipe.guard.on_bad_step {
        config::Policy::Skip => OnBadStep::Skip,
        config::Policy::Recheck => OnBadStep::Recheck,
        config::Policy::Stop => OnBadStep::Stop,
    };
    Care { audit_every: recipe.audit.every, on_bad_step, bad_steps_max: recipe.guard.bad_steps_max }
}

/// Values of a shard of the recipe's model.
pub fn shard_values(recipe: &Recipe, job: &Swav) -> usize {
    let total = job.units().iter().map(everstep_actors::workload::Unit::len).sum();
    recipe.cluster.shard_values.map_or_else(|| default_shard_values(total), |values| values as usize)
}

/// Opens the images of a run, with the index kept under `cache`.
///
/// # Errors
/// The source holds no images, or cannot be read.
pub fn source(place: &str, cache: Option<&Path>) -> Result<Arc<Source>, Failure> {
    Source::open(place, cache).map(Arc::new).map_err(|error| Failure::new(ExitCode::Config, error))
}

/// The loader of a recipe.
///
/// # Errors
/// The data does not fill a batch.
pub fn loader(recipe: &Recipe, source: Arc<Source>, on_bad: OnBad) -> Result<Loader, Failure> {
    let options = LoaderOptions {
        seed: recipe.run.seed,
        lanes: recipe.batch.lanes,
        images_per_lane: recipe.batch.images_per_lane,
        crops: crop_recipe(&recipe.crops),
        bad_share_max: recipe.data.bad_share_max,
        ..LoaderOptions::default()
    };
    Loader::new(source, options, on_bad).map_err(|error| Failure::new(ExitCode::Config, error))
}

/// The view of an image that evaluation takes: the size of the first crops unless the recipe names one.
pub fn view(recipe: &Recipe) -> View {
    let size = recipe.eval.size.or_else(|| recipe.crops.group.first().map(|group| group.size)).unwrap_or(224);
    // 256 for views of 224, as is customary; small images are taken whole.
    let fit = if size >= 96 { Fit::Centre(size * 8 / 7) } else { Fit::Exact };
    View { size, fit, mean: floats(recipe.crops.mean), std: floats(recipe.crops.std), limits: DecodeLimits::default() }
}

fn floats(values: [f64; 3]) -> [f32; 3] {
    values.map(|value| value as f32)
}

/// `[model]`.
pub fn model_config(section: &config::Model) -> model::Config {
    let trunk = match (&section.trunk, &section.design, &section.stages) {
        (_, Some(d), _) => model::Trunk::Numbers(regnet::Numbers {
            depth: d.depth as usize,
            w_0: f64::from(d.w_0),
            w_a: d.w_a,
            w_m: d.w_m,
            group_width: d.group_width as usize,
        }),
        (_, _, Some(s)) => model::Trunk::Stages(regnet::Stages {
            widths: s.widths.iter().map(|width| *width as usize).collect(),
            depths: s.depths.iter().map(|depth| *depth as usize).collect(),
            group_width: s.group_width as usize,
        }),
        (name, ..) => model::Trunk::Named(name.clone().unwrap_or_default()),
    };
    model::Config {
        trunk,
        rounding: match section.rounding {
            config::Rounding::Torchvision => model::Rounding::Torchvision,
            config::Rounding::Seer => model::Rounding::Classy,
        },
        stem_stride: section.stem_stride as usize,
        head: section.head.iter().map(|dim| *dim as usize).collect(),
        head_bn: section.head_bn,
        prototypes: section.prototypes as usize,
        sync: match section.sync {
            config::Sync::Lane => model::Sync::Lane,
            config::Sync::Group(lanes) => model::Sync::Group(lanes),
            config::Sync::All => model::Sync::All,
        },
        ..model::Config::default()
    }
}

/// The crops of an image as the network sees them.
pub fn multicrop(section: &config::Crops) -> Multicrop {
    let size = |group: &config::Group| Size { crops: group.count as usize, side: group.size as usize };
    Multicrop { sizes: section.group.iter().map(size).collect(), padded: section.padded }
}

/// Which units are computed again. A budget is shared by the lanes that a rank has when all of `cluster.ranks` are there.
///
/// # Errors
/// The weights that a rank gathers leave nothing of the budget.
pub fn recompute(recipe: &Recipe) -> Result<model::Recompute, Failure> {
    let section = &recipe.memory;
    let budget = section.budget.as_deref().and_then(|budget| config::bytes(budget).ok());
    Ok(match (section.recompute, budget) {
        (config::Recompute::Always, _) => model::Recompute::Always,
        (config::Recompute::Never, _) => model::Recompute::Never,
        (config::Recompute::Segments, _) => model::Recompute::Segments(section.segments.map_or(1, |segments| segments as usize)),
        (config::Recompute::Auto, budget) => model::Recompute::Within(lane_budget(recipe, budget.unwrap_or_default())?),
    })
}

/// Bytes of a lane when a rank's device has `budget`: what the gathered weights leave, shared by the lanes of the fullest rank.
///
/// # Errors
/// As the memory plan itself.
pub fn lane_budget(recipe: &Recipe, budget: u64) -> Result<u64, Failure> {
    let model = Model::new(&model_config(&recipe.model)).map_err(|error| Failure::new(ExitCode::Config, error))?;
    let gathered = placement::gathered_bytes(model.units(), GATHERED_VALUES_MAX);
    let lanes = u64::from(recipe.batch.lanes.div_ceil(recipe.cluster.ranks));
    let left = budget.checked_sub(gathered).map(|left| left / lanes).filter(|left| *left > 0);
    left.ok_or_else(|| {
        let what = format!("`memory.budget` is {budget} bytes, but the weights that a rank gathers take {gathered}: use a larger one");
        Failure::new(ExitCode::Config, what)
    })
}

/// `[optim]`, with what `[swav]` says of the prototypes.
pub fn optimizer(recipe: &Recipe) -> optim::Config {
    let o = &recipe.optim;
    optim::Config {
        lr: o.lr,
        start_lr: o.start_lr,
        final_lr: o.final_lr,
        warmup: o.warmup,
        momentum: o.momentum as f32,
        weight_decay: o.weight_decay as f32,
        trust: o.trust,
        clip: o.clip,
        eps: o.eps,
        freeze_prototypes: recipe.swav.freeze_prototypes,
    }
}

/// `[crops]`.
pub fn crop_recipe(section: &config::Crops) -> Crops {
    let j = &section.jitter;
    let scaled = |part: f64| (part * j.strength) as f32;
    let jitter = crops::Jitter {
        p: j.chance as f32,
        brightness: scaled(j.brightness),
        contrast: scaled(j.contrast),
        saturation: scaled(j.saturation),
        hue: scaled(j.hue),
    };
    let blur = crops::Blur { p: section.blur as f32, sigma: section.blur_sigma.map(|sigma| sigma as f32) };
    let group = |group: &config::Group| crops::GroupRecipe {
        count: group.count,
        size: group.size,
        scale: group.scale.map(|share| share as f32),
        flip: section.flip as f32,
        grayscale: section.grayscale as f32,
        jitter,
        blur,
        ..crops::GroupRecipe::default()
    };
    Crops { groups: section.group.iter().map(group).collect(), mean: floats(section.mean), std: floats(section.std) }
}

#[cfg(test)]
mod tests {
    use super::*;

    use everstep_actors::protocol::ids::UnitId;

    use crate::weights::{Format, export};

    #[test]
    fn a_run_begins_from_a_file_and_the_rest_from_the_seed() {
        let text =
            "run.steps = 9\ndata.train = \"x\"\nswav.freeze_prototypes = 0\nmodel = { trunk = \"toy\", head = [16, 8], prototypes = 12 }\n";
        let recipe = |set: &str| Recipe::from_text("a.toml", text, &[config::Override::parse(set).unwrap()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let init = format!("model.init={}", path.display());
        let seeded = workload(&recipe("run.seed=1"), 9).unwrap();
        let other = workload(&recipe("run.seed=2"), 9).unwrap();
        let units =
            |job: &Swav| -> Vec<Vec<f32>> { job.units().iter().zip(0..).map(|(unit, id)| job.init(UnitId(id), 0..unit.len())).collect() };
        let written: Vec<_> = units(&other).into_iter().map(Arc::new).collect();
        let (trunk, all) = (seeded.model().trunk().len(), written.len());
        let begun = |format: Format| {
            export(other.model(), &written, 0, format, &path).unwrap();
            let said = std::cell::RefCell::new(String::new());
            let job = beginning(&recipe(&init), 9, &|text| *said.borrow_mut() = text).unwrap();
            let values = units(&job);
            assert_eq!(job.init(UnitId(0), 5..90), values[0][5..90], "any slice is the whole cut");
            (values, said.into_inner())
        };
        let (values, said) = begun(Format::Torchvision);
        assert!(values[..trunk] == units(&other)[..trunk] && said.contains("no projection head"), "{said}");
        let plain = workload(&recipe("run.seed=0"), 9).unwrap();
        assert_eq!(values[trunk..], units(&plain)[trunk..], "what the file does not hold begins from the seed");
        let (values, said) = begun(Format::Vissl);
        assert!(values[..all] == units(&other)[..all] && said.contains("trunk, head and prototypes"), "{said}");

        std::fs::remove_file(&path).unwrap();
        let gone = beginning(&recipe(&init), 9, &|_| {}).unwrap_err();
        assert!(gone.code == ExitCode::Config && gone.sentence.contains("w.safetensors"), "{gone}");
    }

    #[test]
    fn every_trunk_that_a_recipe_may_name_is_known() {
        assert_eq!(config::TRUNKS, model::family::NAMES);
    }
}
