//! `everstep plan`: what a run would take, before it begins. Opens no data, starts nothing, allocates no weights.

mod text;

use burn::tensor::Device;
use everstep_actors::workload::Workload as _;
use serde::Serialize;

use super::output::{print, print_json};
use crate::cli::{ExitCode, Failure, PlanArgs};
use crate::config::{self, Recipe, Sync};
use crate::model;
use crate::planning::forecast::{Forecast, LATENCY, Question, UTILISATION};
use crate::planning::placement::Width;
use crate::planning::{footprint, recompute};
use crate::setup::{self, GATHERED_VALUES_MAX};
use crate::train::Swav;

/// The schedule in steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Schedule {
    /// Learning rate of the first step.
    pub start_lr: f64,
    /// At the end of the warm-up.
    pub peak_lr: f64,
    /// At the end of the run.
    pub final_lr: f64,
    /// The peak for 256 images.
    pub lr_per_256: f64,
    /// Steps that warm up.
    pub warmup_steps: u64,
    /// Steps for which prototypes stay as they are.
    pub freeze_steps: u64,
}

/// What the numbers rest on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assumptions {
    /// Bytes a second of a link.
    pub link_bytes_per_s: f64,
    /// Operations a second of a device.
    pub flops: f64,
    /// Share of them that training reaches.
    pub utilisation: f64,
    /// Seconds of a sum over lanes on the wire.
    pub latency_s: f64,
    /// Bytes of a value in memory and on the wire.
    pub value_bytes: u64,
}

/// All that the command tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The recipe's file.
    pub config: String,
    /// The forecast.
    #[serde(flatten)]
    pub forecast: Forecast,
    /// The schedule.
    pub schedule: Schedule,
    /// What it rests on.
    pub assumptions: Assumptions,
    /// What this build does not have.
    pub not_there: Vec<&'static str>,
}

/// What someone who knows other trainers would look for in vain.
const NOT_THERE: [&str; 5] = [
    "no NVLink or NCCL path: weights and gradients go through the host's memory and its network, once per node",
    "no tensor or pipeline parallelism: a rank computes whole units",
    "no offloading of feature maps to the host: what does not fit is computed again",
    "no store but a folder: requests and egress are what an object store would bill",
    "time for decoding, updates and checkpoints: they run beside the step and are taken to be hidden",
];

/// Forecasts and prints.
///
/// # Errors
/// A recipe that cannot be used, or that counts passes when no number of images was given.
pub fn run(args: &PlanArgs) -> Result<(), Failure> {
    let report = report(args)?;
    if args.json { print_json(&report) } else { print(&text::text(&report)) }
}

/// The report.
///
/// # Errors
/// As [`run`].
pub fn report(args: &PlanArgs) -> Result<Report, Failure> {
    let recipe = Recipe::load_with(&args.config, &args.overrides()?)?;
    let config = args.config.display().to_string();
    let steps = steps(&recipe, args.images, &config)?;
    let job = job(&recipe, steps, args.device_memory)?;
    let settings = job.settings();
    let sinkhorn_rounds = u64::from(recipe.swav.iterations) * u64::from(recipe.swav.assign);
    let forecast = Forecast::new(&Question {
        model: job.model(),
        units: job.units(),
        passes: settings.crops.passes(settings.batch),
        crops: settings.crops.crops(),
        images_per_lane: recipe.batch.images_per_lane,
        lanes: settings.lanes,
        norm_group: match recipe.model.sync {
            Sync::Lane => 1,
            Sync::Group(lanes) => lanes,
            Sync::All => settings.lanes,
        },
        sinkhorn_rounds,
        ranks: recipe.cluster.ranks,
        replicas: recipe.cluster.replicas,
        plan: job.plan(),
        shard_values: setup::shard_values(&recipe, &job),
        slots: job.slots(),
        gathered_values_max: GATHERED_VALUES_MAX,
        steps,
        activation_bytes: settings.precision.activation_bytes(),
        widths: widths(&job),
        checkpoint_every: recipe.checkpoint.every,
        checkpoint_keep: recipe.checkpoint.keep,
        device_memory: device_memory(&recipe, args.device_memory),
        link: args.link,
        flops: args.flops,
    });
    let optim = setup::optimizer(&recipe);
    let schedule = Schedule {
        start_lr: optim.start_lr,
        peak_lr: optim.lr,
        final_lr: optim.final_lr,
        lr_per_256: optim.lr * 256.0 / forecast.images_per_step as f64,
        warmup_steps: (optim.warmup * steps as f64).ceil() as u64,
        freeze_steps: optim.freeze_prototypes,
    };
    let assumptions = Assumptions {
        link_bytes_per_s: args.link,
        flops: args.flops,
        utilisation: UTILISATION,
        latency_s: LATENCY,
        value_bytes: footprint::VALUE,
    };
    Ok(Report { config, forecast, schedule, assumptions, not_there: NOT_THERE.to_vec() })
}

fn steps(recipe: &Recipe, images: Option<u64>, config: &str) -> Result<u64, Failure> {
    match (recipe.run.steps, images) {
        (Some(steps), _) => Ok(steps),
        (None, Some(images)) => recipe.steps(images).map_err(|invalid| Failure::new(ExitCode::Config, format!("{config}: {invalid}"))),
        (None, None) => {
            let what =
                format!("{config} counts passes over its data, which is not opened here: give the number of its images with --images");
            Err(Failure::new(ExitCode::Usage, what))
        }
    }
}

/// Prototypes and what comes after them always travel in f32.
fn widths(job: &Swav) -> Vec<Width> {
    let narrow = job.model().head_id().0 as usize + 1;
    let wide = Width { gather: footprint::VALUE, reduce: footprint::VALUE };
    (0..job.units().len()).map(|unit| if unit < narrow { job.settings().precision.width() } else { wide }).collect()
}

fn device_memory(recipe: &Recipe, asked: Option<u64>) -> Option<u64> {
    asked.or_else(|| recipe.memory.budget.as_deref().and_then(|budget| config::bytes(budget).ok()))
}

/// The job with the memory plan that training would use; where none fits, with the one that comes nearest. Nothing is computed: no device is opened.
fn job(recipe: &Recipe, steps: u64, asked: Option<u64>) -> Result<Swav, Failure> {
    if recipe.memory.recompute != config::Recompute::Auto {
        return setup::workload_with(recipe, steps, setup::recompute(recipe)?, Device::flex());
    }
    let kept = setup::workload_with(recipe, steps, model::Recompute::Never, Device::flex())?;
    let settings = kept.settings();
    let units = footprint::trunk(kept.model().trunk(), &settings.crops.passes(settings.batch), settings.precision.activation_bytes());
    let least = recompute::least_memory(&units, footprint::head(kept.model(), settings.crops.crops() * settings.batch));
    let budget = setup::lane_budget(recipe, device_memory(recipe, asked).unwrap_or_default()).unwrap_or_default();
    setup::workload_with(recipe, steps, model::Recompute::Within(budget.max(least)), Device::flex())
}

#[cfg(test)]
mod tests;
