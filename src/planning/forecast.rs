//! Everything that is told of a run before it begins, from the shapes of its model and the numbers of its recipe.

use everstep_actors::workload::Unit;
use serde::Serialize;

use super::footprint::{self, Pass, VALUE};
use super::placement::{self, Load};
use super::recompute::{self, Segment};
use crate::model::layout::Part;
use crate::model::{Model, parameters};

/// Share of a device's operations that training is taken to reach.
pub const UTILISATION: f64 = 0.4;
/// Seconds that a sum over lanes is taken to take on the wire, whatever its size.
pub const LATENCY: f64 = 100e-6;

/// What the forecast is made from.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The model.
    pub model: &'a Model,
    /// All units of the run: the model's, and a queue's.
    pub units: &'a [Unit],
    /// What goes through the trunk in one lane, pass by pass.
    pub passes: Vec<Pass>,
    /// Crops of an image.
    pub crops: usize,
    /// Images of a lane.
    pub images_per_lane: u32,
    /// Lanes.
    pub lanes: u32,
    /// Lanes that share batch-norm moments.
    pub norm_group: u32,
    /// Sums over lanes that Sinkhorn takes in a step.
    pub sinkhorn_rounds: u64,
    /// Ranks.
    pub ranks: u32,
    /// Copies of a shard besides its owner's.
    pub replicas: u32,
    /// The memory plan.
    pub plan: &'a [Segment],
    /// Values of a shard.
    pub shard_values: usize,
    /// Optimizer slots of a value.
    pub slots: usize,
    /// Gathered values that a rank keeps.
    pub gathered_values_max: usize,
    /// Optimizer steps.
    pub steps: u64,
    /// Bytes of an activation.
    pub activation_bytes: u64,
    /// Bytes of each unit's values on the wire.
    pub widths: Vec<placement::Width>,
    /// Steps between checkpoints; 0: one at the end.
    pub checkpoint_every: u64,
    /// Checkpoints that are kept.
    pub checkpoint_keep: u32,
    /// Memory of a rank's device in bytes.
    pub device_memory: Option<u64>,
    /// Bytes a second of a rank's link, in each direction.
    pub link: f64,
    /// Operations a second of a rank's device.
    pub flops: f64,
}

/// Sizes of the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sizes {
    /// Trained values of the trunk.
    pub trunk: u64,
    /// Of the projection head.
    pub head: u64,
    /// Of the prototypes.
    pub prototypes: u64,
    /// Of all.
    pub parameters: u64,
    /// Batch-norm statistics and other state that steps compute.
    pub buffers: u64,
    /// Bytes of the parameters in f32.
    pub bytes: u64,
    /// Multiply-adds of an image's forward: all its crops through trunk, head and prototypes.
    pub multiply_adds: u64,
}

/// What ranks hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranks {
    /// Ranks.
    pub ranks: u32,
    /// Units.
    pub units: u64,
    /// Shards of the run.
    pub shards: u64,
    /// The rank that owns most.
    pub fullest: Load,
    /// Host bytes of its shards: values and optimizer slots.
    pub state_bytes: u64,
    /// Host bytes while a step is updated: new versions beside the old, and the mean gradients.
    pub update_bytes: u64,
    /// Host bytes of the copies of other ranks' shards that it keeps.
    pub replica_bytes: u64,
}

/// Memory of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Memory {
    /// Weights that a rank holds gathered.
    pub gathered_bytes: u64,
    /// Feature maps, graphs and gradients of one lane at the height of its step, under the plan.
    pub lane_bytes: u64,
    /// The same if every unit kept its graph.
    pub lane_bytes_kept: u64,
    /// The least that any plan needs.
    pub lane_bytes_least: u64,
    /// Gathered weights and the lanes of the fullest rank together.
    pub device_bytes: u64,
    /// What there is.
    pub device_memory: Option<u64>,
    /// Whether it fits.
    pub fits: Option<bool>,
    /// Units of the trunk that keep their graph.
    pub units_kept: u64,
    /// Units that are computed again.
    pub units_recomputed: u64,
    /// Segments that they are computed again in.
    pub segments_recomputed: u64,
    /// Multiply-adds computed again, as a share of the trunk's forward.
    pub recomputed: f64,
}

/// Bytes on the wire in a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traffic {
    /// Most that comes in at a rank: weights and gradients.
    pub bytes_in: u64,
    /// Most that goes out of a rank.
    pub bytes_out: u64,
    /// Sums over lanes that a lane waits for, one after the other: batch norm forward and backward, Sinkhorn, use of the prototypes.
    pub sums: u64,
    /// Bytes of these sums that a rank sends and receives, about.
    pub sum_bytes: u64,
}

/// How long it takes, under stated assumptions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Time {
    /// Operations of the whole run.
    pub flop: f64,
    /// Seconds that the fullest rank computes in a step.
    pub compute_s: f64,
    /// Seconds that its link is busy in a step.
    pub link_s: f64,
    /// Seconds that sums over lanes wait in a step.
    pub sums_s: f64,
    /// A step when computing and sending overlap fully.
    pub step_s: f64,
    /// A step when they do not overlap at all.
    pub step_apart_s: f64,
    /// Images a second at `step_s`.
    pub images_per_s: f64,
    /// The run at `step_s`.
    pub run_s: f64,
}

/// Checkpoints and the store.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Store {
    /// Bytes of a checkpoint.
    pub checkpoint_bytes: u64,
    /// Objects of a checkpoint: its parts and a manifest.
    pub checkpoint_objects: u64,
    /// Checkpoints of the run.
    pub checkpoints: u64,
    /// Objects written over the run.
    pub puts: u64,
    /// Bytes written over the run.
    pub written_bytes: u64,
    /// Bytes that lie in the store at once.
    pub kept_bytes: u64,
    /// Objects read by one resume.
    pub resume_gets: u64,
    /// Bytes read by one resume: what a store elsewhere bills as egress.
    pub resume_bytes: u64,
}

/// The whole forecast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Sizes of the model.
    pub model: Sizes,
    /// Images of a step.
    pub images_per_step: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Images of the run.
    pub images: u64,
    /// What ranks hold.
    pub ranks: Ranks,
    /// Memory of a device.
    pub memory: Memory,
    /// Bytes on the wire.
    pub traffic: Traffic,
    /// Time.
    pub time: Time,
    /// Checkpoints.
    pub store: Store,
}

impl Forecast {
    /// Answers a question.
    pub fn new(question: &Question<'_>) -> Self {
        let q = question;
        let images_per_step = u64::from(q.lanes) * u64::from(q.images_per_lane);
        let footprints = footprint::trunk(q.model.trunk(), &q.passes, q.activation_bytes);
        let gathers = placement::gathers(q.units, q.gathered_values_max, q.plan);
        let loads = placement::loads(
            q.units,
            &q.widths,
            &gathers,
            q.shard_values,
            placement::Ranks { count: q.ranks, replicas: q.replicas },
            q.lanes,
        );
        let model = sizes(q, &footprints);
        let memory = memory(q, &footprints, &loads);
        let traffic = traffic(q, &loads);
        let time = time(q, &model, &memory, &traffic, &loads, images_per_step);
        let (ranks, store) = (ranks(q, &loads), store(q, &loads));
        Self { model, images_per_step, steps: q.steps, images: images_per_step * q.steps, ranks, memory, traffic, time, store }
    }
}

fn sizes(q: &Question<'_>, footprints: &[recompute::Footprint]) -> Sizes {
    let trunk = q.model.trunk().iter().map(|layout| parameters(&layout.unit) as u64).sum();
    let (head, prototypes) = (parameters(&q.model.head().unit) as u64, parameters(&q.model.prototypes().unit) as u64);
    let total = q.units.iter().map(|unit| unit.len() as u64).sum::<u64>();
    let parameters = trunk + head + prototypes;
    let of_crop: u64 =
        [q.model.head(), q.model.prototypes()].iter().flat_map(|layout| &layout.parts).map(|part| part.multiply_adds(1)).sum();
    let trunk_work: u64 = footprints.iter().map(|unit| unit.work).sum();
    Sizes {
        trunk,
        head,
        prototypes,
        parameters,
        buffers: total - parameters,
        bytes: parameters * VALUE,
        multiply_adds: trunk_work / u64::from(q.images_per_lane) + q.crops as u64 * of_crop,
    }
}

fn fullest(loads: &[Load]) -> Load {
    loads.iter().copied().max_by_key(|load| (load.values, load.lanes)).unwrap_or_default()
}

fn lanes_most(loads: &[Load]) -> u64 {
    loads.iter().map(|load| u64::from(load.lanes)).max().unwrap_or_default()
}

fn ranks(q: &Question<'_>, loads: &[Load]) -> Ranks {
    let fullest = fullest(loads);
    let state_bytes = VALUE * fullest.values * (1 + q.slots as u64);
    Ranks {
        ranks: q.ranks,
        units: q.units.len() as u64,
        shards: loads.iter().map(|load| load.shards).sum(),
        fullest,
        state_bytes,
        update_bytes: state_bytes + VALUE * fullest.values,
        replica_bytes: state_bytes * u64::from(q.replicas.min(q.ranks - 1)),
    }
}

fn memory(q: &Question<'_>, footprints: &[recompute::Footprint], loads: &[Load]) -> Memory {
    let head = footprint::head(q.model, q.crops * q.images_per_lane as usize);
    let gathered_bytes = placement::gathered_bytes(q.units, q.gathered_values_max);
    let lane_bytes = recompute::peak(footprints, head, q.plan);
    let device_bytes = gathered_bytes + lanes_most(loads) * lane_bytes;
    let again = || q.plan.iter().filter(|segment| segment.recompute);
    let units_recomputed: usize = again().map(|segment| segment.units.len()).sum();
    let work: u64 = footprints.iter().map(|unit| unit.work).sum();
    Memory {
        gathered_bytes,
        lane_bytes,
        lane_bytes_kept: recompute::peak(footprints, head, &recompute::never(footprints.len())),
        lane_bytes_least: recompute::least_memory(footprints, head),
        device_bytes,
        device_memory: q.device_memory,
        fits: q.device_memory.map(|memory| device_bytes <= memory),
        units_kept: (footprints.len() - units_recomputed) as u64,
        units_recomputed: units_recomputed as u64,
        segments_recomputed: again().count() as u64,
        recomputed: recompute::work(footprints, q.plan) as f64 / work.max(1) as f64,
    }
}

/// Channels of each batch norm of some parts.
fn norms(parts: &[Part]) -> Vec<u64> {
    let of = |part: &Part| match part {
        Part::Stem { width, .. } => vec![*width as u64],
        Part::Block(block) => vec![block.width as u64; if block.projects() { 4 } else { 3 }],
        Part::Head { dims, norm: true } => dims[1..dims.len() - 1].iter().map(|dim| *dim as u64).collect(),
        Part::Head { .. } | Part::Prototypes { .. } => Vec::new(),
    };
    parts.iter().flat_map(of).collect()
}

fn traffic(q: &Question<'_>, loads: &[Load]) -> Traffic {
    let trunk: Vec<u64> = q.model.trunk().iter().flat_map(|layout| norms(&layout.parts)).collect();
    let head = norms(&q.model.head().parts);
    // Each once forward and once backward, two values a channel.
    let passes = q.passes.len() as u64;
    let (calls, channels) = match q.norm_group {
        0 | 1 => (0, 0),
        _ => (passes * trunk.len() as u64 + head.len() as u64, passes * trunk.iter().sum::<u64>() + head.iter().sum::<u64>()),
    };
    let count = q.model.count() as u64;
    let values = 2 * 2 * channels + count * (q.sinkhorn_rounds + 1);
    let most = |of: fn(&Load) -> u64| loads.iter().map(of).max().unwrap_or_default();
    Traffic {
        bytes_in: most(|load| load.bytes_in),
        bytes_out: most(|load| load.bytes_out),
        sums: 2 * calls + q.sinkhorn_rounds + 1,
        // To the rank that finishes a sum and back; a rank by itself sends nothing.
        sum_bytes: if q.ranks > 1 { 2 * VALUE * values } else { 0 },
    }
}

fn time(q: &Question<'_>, model: &Sizes, memory: &Memory, traffic: &Traffic, loads: &[Load], images_per_step: u64) -> Time {
    // Forward, and twice as much backward; what is computed again once more.
    let flop_per_image = 2.0 * model.multiply_adds as f64 * (3.0 + memory.recomputed);
    let images = lanes_most(loads) as f64 * f64::from(q.images_per_lane);
    let compute_s = images * flop_per_image / (q.flops * UTILISATION);
    let link_s = (traffic.bytes_in.max(traffic.bytes_out) + traffic.sum_bytes) as f64 / q.link;
    let sums_s = if q.ranks > 1 { traffic.sums as f64 * LATENCY } else { 0.0 };
    let step_s = compute_s.max(link_s) + sums_s;
    Time {
        flop: flop_per_image * (images_per_step * q.steps) as f64,
        compute_s,
        link_s,
        sums_s,
        step_s,
        step_apart_s: compute_s + link_s + sums_s,
        images_per_s: images_per_step as f64 / step_s,
        run_s: step_s * q.steps as f64,
    }
}

fn store(q: &Question<'_>, loads: &[Load]) -> Store {
    let total: u64 = q.units.iter().map(|unit| unit.len() as u64).sum();
    let shards: u64 = loads.iter().map(|load| load.shards).sum();
    let checkpoint_bytes = VALUE * total * (1 + q.slots as u64);
    let checkpoints = if q.checkpoint_every == 0 { 1 } else { q.steps.div_ceil(q.checkpoint_every) };
    Store {
        checkpoint_bytes,
        checkpoint_objects: shards + 1,
        checkpoints,
        puts: checkpoints * (shards + 1),
        written_bytes: checkpoints * checkpoint_bytes,
        kept_bytes: checkpoints.min(u64::from(q.checkpoint_keep)) * checkpoint_bytes,
        resume_gets: shards + 1,
        resume_bytes: checkpoint_bytes,
    }
}
