//! The command line: what can be typed, and how it ends.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use everstep_chaos::tier::Tier;

pub use desk::{At, RunAt, Watched};
pub use failure::{ExitCode, Failure};

use crate::config::Override;

pub mod dashboard;
pub mod describe;
pub mod desk;
pub mod doctor;
pub mod events;
pub mod explain;
mod failure;
pub mod get;
pub mod goodput;
pub mod history;
pub mod metrics;
pub mod selection;
pub mod tensorboard;
pub mod top;
#[cfg(feature = "otel")]
pub mod traces;
pub mod tree;
pub mod tui;
pub mod wait;
pub mod why;

const EXAMPLES: &str = "\
Examples:
  everstep train configs/quickstart.toml                  a first run; makes its own images
  everstep train configs/cifar10.toml --data photos/      your own images
  everstep status --run runs/quickstart                   what a run is doing, from a second terminal
  everstep why --run runs/quickstart                      why it waits or is slow, and what to do
  everstep export --run runs/quickstart --format timm -o trunk.safetensors

Exit codes:
  0  done, or stopped on request         70  internal error, please report it
  1  failed                              75  try again: the same command resumes the run
  2  usage                               78  bad config or data: do not retry
  3  not found   4  unreachable   5  unhealthy   6  timed out   7  refused";

/// Trains SwAV on RegNetY on machines that come and go.
#[derive(Debug, Parser)]
#[command(name = "everstep", version, about, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// How what the program says of itself looks
    #[arg(long, global = true, value_enum, default_value_t, env = crate::log::FORMAT_VARIABLE, hide_env = true)]
    pub log_format: crate::log::Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train; the same command again resumes the run from its newest intact checkpoint
    Train(TrainArgs),
    /// Say what a run would take, before it begins: memory, traffic, time, checkpoints, and whether it fits
    Plan(PlanArgs),
    /// One node of a run, started by `train`
    #[command(hide = true)]
    Node,
    /// Measure what a trunk has learned
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Write the weights as safetensors, with the names that timm, torchvision, transformers or vissl expect
    Export(ExportArgs),
    /// Print the digest of the whole state (weights, optimizer slots, buffers) in one line
    Digest(StateArgs),
    /// List or verify checkpoints
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Make or inspect images
    #[command(subcommand)]
    Data(DataCommand),
    /// Let a node hand over what it holds and leave the run, which goes on without it
    Drain(At<desk::Ordering<desk::DrainArgs>>),
    /// Let a node that was told to leave stay after all
    Undrain(At<desk::Ordering<desk::NodeRef>>),
    /// Begin no step after the one in flight, until `resume`
    Pause(At<desk::Ordering<desk::Nothing>>),
    /// Let a paused run go on
    Resume(At<desk::Ordering<desk::Nothing>>),
    /// End the run in good order: finish the step, write a checkpoint, leave
    Stop(At<desk::Ordering<desk::StopArgs>>),
    /// End a node's process at once, as a crash would
    Kill(At<desk::Ordering<desk::KillArgs>>),
    /// Prove from the durable ledger that every sample of each pass was used once, in one history of epochs and steps
    Audit(RunArgs),
    /// Start a new run from a step of another
    Fork(ForkArgs),
    /// Break clusters on purpose, and check that no step, sample or bit is lost
    #[command(subcommand)]
    Chaos(ChaosCommand),
    /// Show who is in, which step, since when, how fast, and why it waits
    Status(Watched<desk::StatusArgs>),
    /// List what there is of one kind or of several: nodes, ranks, actors, lanes, shards, checkpoints, events, links
    Get(Watched<get::GetArgs>),
    /// Show everything about one thing
    Describe(Watched<describe::DescribeArgs>),
    /// Draw the run as a tree, down to its actors
    Tree(Watched<tree::TreeArgs>),
    /// Say why the run waits or is slow, from the symptom to who is at fault, with the remedy
    Why(Watched<why::WhyArgs>),
    /// Check the run against named lints; exit code 5 when a fault stands
    Doctor(Watched<doctor::DoctorArgs>),
    /// Wait until something holds, such as 'step>=1000'
    Wait(At<wait::WaitArgs>),
    /// Print what happened, and with -f what happens
    Events(At<events::EventsArgs>),
    /// Say what the run was doing at a moment, or which incidents it had
    History(Watched<history::HistoryArgs>),
    /// Say where every rank-second went
    Goodput(Watched<goodput::GoodputArgs>),
    /// Print what nodes said while they ran
    Logs(At<desk::LogsArgs>),
    /// Show ranks like processes in top
    Top(At<top::TopArgs>),
    /// Look at the run in the terminal, page by page
    Tui(At<tui::TuiArgs>),
    /// Serve a page that shows the run, live
    Dashboard(At<dashboard::DashboardArgs>),
    /// Print the run's metrics once, as Prometheus would scrape them
    Metrics(At<metrics::MetricsArgs>),
    /// Write the curves as TensorBoard's event files
    Tensorboard(At<tensorboard::TensorboardArgs>),
    #[cfg(feature = "otel")]
    /// Send or print traces of steps and of changes of members, as OpenTelemetry takes them
    Traces(At<traces::TracesArgs>),
    /// Write what a bug report needs into one tar, without what is secret
    Bundle(At<desk::BundleArgs>),
    /// Make certificates for people
    #[command(subcommand)]
    Cert(desk::CertCommand),
    /// Explain a kind or a field, such as actor.depth
    Explain(explain::ExplainArgs),
    /// Print the JSON schema of questions, answers and orders
    Schema,
    /// Print the completions of a shell
    Completions(desk::CompletionsArgs),
    /// Print the man page, or write one a command
    Man(desk::ManArgs),
}

/// `everstep train`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep train configs/quickstart.toml
  everstep train configs/cifar10.toml --data 'shards/train-{000..015}.tar' --ranks 4
  everstep train configs/quickstart.toml --set optim.lr=2 --set data.make.images=2000 --json > run.jsonl")]
pub struct TrainArgs {
    /// The recipe, a TOML file
    pub config: PathBuf,
    /// A folder of images, a tar, or a folder or pattern of tar shards (replaces data.train)
    #[arg(long, value_name = "PATH")]
    pub data: Option<String>,
    /// Where the run lives; a folder under runs/ that is named after the recipe by default
    #[arg(long, value_name = "LOCATION")]
    pub run: Option<String>,
    /// Where the run's certificates live; within the run by default
    #[arg(long, value_name = "LOCATION")]
    pub secrets: Option<String>,
    /// Where this machine's processes get their certificates, if it cannot read the run's authority: see `everstep cert serve`
    #[arg(long, value_name = "ADDRESS", requires = "token_file", conflicts_with = "secrets")]
    pub join: Option<String>,
    /// Tokens of `everstep cert token`, one a line: each start of a process takes one
    #[arg(long, value_name = "FILE", requires = "join")]
    pub token_file: Option<PathBuf>,
    /// Processes to start on this machine (replaces cluster.ranks); never changes the results
    #[arg(long, value_name = "N")]
    pub ranks: Option<u32>,
    /// Optimizer steps of the run (replaces run.steps)
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// What to compute on (replaces device.name)
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Weights to begin from: safetensors or a PyTorch checkpoint of timm, torchvision, transformers or vissl (replaces model.init)
    #[arg(long, value_name = "FILE")]
    pub init_from: Option<String>,
    /// Replace any value of the recipe; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// One JSON object a line on stdout
    #[arg(long)]
    pub json: bool,
}

impl TrainArgs {
    /// What the flags replace in the recipe: `--set` first, so that a flag of its own wins.
    ///
    /// # Errors
    /// A `--set` without `=`.
    pub fn overrides(&self) -> Result<Vec<Override>, crate::config::ConfigError> {
        let mut all = self.set.iter().map(|argument| Override::parse(argument)).collect::<Result<Vec<_>, _>>()?;
        let flags = [
            ("--data", "data.train", self.data.clone()),
            ("--ranks", "cluster.ranks", self.ranks.map(|ranks| ranks.to_string())),
            ("--steps", "run.steps", self.steps.map(|steps| steps.to_string())),
            ("--device", "device.name", self.device.clone()),
            ("--init-from", "model.init", self.init_from.clone()),
        ];
        for (flag, key, text) in flags {
            all.extend(text.map(|text| Override { place: format!("{flag} {text}"), key: key.into(), text }));
        }
        Ok(all)
    }

    /// Where the run lives: as told, or under `runs/` by the recipe's name.
    pub fn location(&self) -> String {
        let name = || self.config.file_stem().map_or_else(|| "run".into(), |stem| stem.to_string_lossy().into_owned());
        self.run.clone().unwrap_or_else(|| format!("runs/{}", name()))
    }
}

/// `everstep plan`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep plan configs/seer-10b.toml --ranks 496 --device-memory 40GiB --link 100Gbit --flops 312T
  everstep plan configs/swav-in1k-256.toml --images 1281167 --json")]
pub struct PlanArgs {
    /// The recipe, a TOML file; its data is not opened
    pub config: PathBuf,
    /// Ranks, each with a device of its own (replaces cluster.ranks)
    #[arg(long, value_name = "N")]
    pub ranks: Option<u32>,
    /// Memory of a rank's device (replaces memory.budget where the recipe has one)
    #[arg(long, value_name = "BYTES", value_parser = crate::config::bytes)]
    pub device_memory: Option<u64>,
    /// Rate of a rank's network link in each direction
    #[arg(long, value_name = "RATE", default_value = "10Gbit", value_parser = crate::config::link)]
    pub link: f64,
    /// Floating-point operations a second of a rank's device, at the precision that it computes in
    #[arg(long, value_name = "RATE", default_value = "1T", value_parser = crate::config::flops)]
    pub flops: f64,
    /// Images of the data, for recipes that count passes
    #[arg(long, value_name = "N")]
    pub images: Option<u64>,
    /// Replace any value of the recipe; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

impl PlanArgs {
    /// What the flags replace in the recipe.
    ///
    /// # Errors
    /// A `--set` without `=`.
    pub fn overrides(&self) -> Result<Vec<Override>, crate::config::ConfigError> {
        let mut all = self.set.iter().map(|argument| Override::parse(argument)).collect::<Result<Vec<_>, _>>()?;
        let ranks = self.ranks.map(|ranks| ranks.to_string());
        all.extend(ranks.map(|text| Override { place: format!("--ranks {text}"), key: "cluster.ranks".into(), text }));
        Ok(all)
    }
}

/// `everstep eval`.
#[derive(Debug, Clone, Subcommand)]
pub enum EvalCommand {
    /// Weighted vote of the nearest training images by cosine
    Knn(KnnArgs),
    /// A linear layer on frozen features; the best of a few learning rates
    Linear(ProbeArgs),
    /// How evenly images fall to the prototypes; few in use are the sign of a collapse
    Prototypes(PrototypesArgs),
}

/// `everstep eval prototypes`.
#[derive(Debug, Clone, Args)]
pub struct PrototypesArgs {
    /// Which state
    #[command(flatten)]
    pub state: StateArgs,
    /// Images, labelled or not
    #[arg(long, value_name = "PATH")]
    pub data: String,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// What `eval knn` and `eval linear` share.
#[derive(Debug, Clone, Args)]
pub struct ProbeArgs {
    /// Which trunk
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// Labelled images to learn from: labels are folder names or .cls entries
    #[arg(long, value_name = "PATH")]
    pub train: String,
    /// Labelled images to be judged on
    #[arg(long, value_name = "PATH")]
    pub test: String,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// A trunk to examine: a run's, or that of a file.
#[derive(Debug, Clone, Args)]
pub struct SubjectArgs {
    /// Where the run lives
    #[arg(long, value_name = "LOCATION", required_unless_present = "weights")]
    pub run: Option<String>,
    /// Steps committed in the checkpoint to use; the newest intact one by default
    #[arg(long, value_name = "S", requires = "run")]
    pub step: Option<u64>,
    /// A file of weights instead of a run: safetensors or a PyTorch checkpoint of timm, torchvision, transformers or vissl
    #[arg(long, value_name = "FILE", conflicts_with = "run", requires = "arch")]
    pub weights: Option<PathBuf>,
    /// The trunk that the file holds, such as regnet_y_16gf
    #[arg(long, value_name = "NAME", requires = "weights")]
    pub arch: Option<String>,
    /// How its widths were rounded: torchvision for its own weights, seer for those of vissl, timm and Hugging Face
    #[arg(long, value_enum, default_value_t = Widths::Seer, requires = "weights")]
    pub rounding: Widths,
    /// Side of the images that the file's trunk sees
    #[arg(long, value_name = "PIXELS", default_value_t = 224, requires = "weights", value_parser = clap::value_parser!(u32).range(8..=2048))]
    pub size: u32,
}

/// How a trunk's widths were rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Widths {
    /// To the nearest multiple
    Seer,
    /// Never a tenth down
    Torchvision,
}

/// `everstep eval knn`.
#[derive(Debug, Clone, Args)]
pub struct KnnArgs {
    /// State and images
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// Neighbours that vote
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// A neighbour's vote weighs exp(similarity / temperature)
    #[arg(long, default_value_t = 0.07, value_parser = temperature)]
    pub temperature: f64,
}

fn temperature(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.01);
    value.ok_or_else(|| "use a finite number, 0.01 at least".into())
}

/// A run, and one of its states.
#[derive(Debug, Clone, Args)]
pub struct StateArgs {
    /// Where the run lives
    #[arg(long, value_name = "LOCATION", env = "EVERSTEP_RUN")]
    pub run: String,
    /// Steps committed in the checkpoint to use; the newest intact one by default
    #[arg(long, value_name = "S")]
    pub step: Option<u64>,
}

/// A run, for people or programs.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Where the run lives
    #[arg(long, value_name = "LOCATION", env = "EVERSTEP_RUN")]
    pub run: String,
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// `everstep chaos`.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "\
Examples:
  everstep chaos run configs/chaos/kill.toml                   in the simulation
  everstep chaos run configs/chaos/kill.toml --tier process    with this program, in processes and network namespaces
  everstep chaos run configs/chaos/kill.toml --tier paused     with real nodes, the same to the last datagram each time
  everstep chaos sim --ranks 500 --seeds 5                     drawn storms over 500 ranks
  everstep chaos replay chaos-report/summary.json

Exit code 5: a check did not hold, or no fault struck.")]
pub enum ChaosCommand {
    /// Play a plan
    Run {
        /// The plan, a TOML file
        plan: PathBuf,
        /// Whom faults strike and what is drawn [default: the plan's]
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// sim: machines of the protocol alone; paused: real nodes on a ledger, on one thread and a paused clock; local: the same over
        /// loopback; process: this program on images
        #[arg(long, value_name = "TIER", default_value_t = Tier::Sim)]
        tier: Tier,
        /// Where timeline, page, JUnit file and summary go
        #[arg(long, value_name = "FOLDER", default_value = "chaos-report")]
        out: PathBuf,
    },
    /// Play drawn plans over so many simulated ranks, up to the first that fails, and make that one small
    Sim {
        /// Ranks
        #[arg(long, value_name = "N", default_value_t = 32)]
        ranks: u32,
        /// Plans
        #[arg(long, value_name = "N", default_value_t = 100)]
        seeds: u64,
        /// The first seed
        #[arg(long, value_name = "N", default_value_t = 0)]
        first: u64,
        /// Where the report of a failure goes
        #[arg(long, value_name = "FOLDER", default_value = "chaos-report")]
        out: PathBuf,
    },
    /// Play drawn plans over drawn clusters, simulated, up to the first that fails, and make that one small
    Swarm {
        /// Plans
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        seeds: u64,
        /// The first seed
        #[arg(long, value_name = "N", default_value_t = 0)]
        first: u64,
        /// Where the report of a failure goes
        #[arg(long, value_name = "FOLDER", default_value = "chaos-report")]
        out: PathBuf,
    },
    /// Play again what a report's summary.json or a plan says
    Replay {
        /// summary.json, or a plan
        file: PathBuf,
        /// Where the report goes
        #[arg(long, value_name = "FOLDER", default_value = "chaos-report")]
        out: PathBuf,
    },
    /// Make a plan that fails as small as it fails still
    Shrink {
        /// The plan
        plan: PathBuf,
        /// As for `run`
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// As for `run`
        #[arg(long, value_name = "TIER", default_value_t = Tier::Sim)]
        tier: Tier,
        /// Where the report of the small plan goes
        #[arg(long, value_name = "FOLDER", default_value = "chaos-report")]
        out: PathBuf,
    },
}

/// `everstep fork`.
#[derive(Debug, Clone, Args)]
pub struct ForkArgs {
    /// The run to start from
    #[arg(long, value_name = "LOCATION")]
    pub from: String,
    /// Steps committed in the checkpoint to start from; the newest intact one by default
    #[arg(long, value_name = "S")]
    pub step: Option<u64>,
    /// Where the new run is to live
    #[arg(long, value_name = "LOCATION")]
    pub run: String,
    /// Replace any value of the recipe that does not change the model's shape; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// `everstep export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Which state
    #[command(flatten)]
    pub state: StateArgs,
    /// Whose names the tensors get
    #[arg(long, value_enum)]
    pub format: Format,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Whose names exported tensors get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// PyTorch Image Models
    Timm,
    /// torchvision
    Torchvision,
    /// transformers' RegNetModel
    HuggingFace,
    /// vissl, with projection head and prototypes
    Vissl,
}

/// `everstep checkpoint`.
#[derive(Debug, Clone, Subcommand)]
pub enum CheckpointCommand {
    /// Take a checkpoint after the step in flight
    Now(At<desk::Ordering<desk::Nothing>>),
    /// List the checkpoints of a run
    Ls(RunArgs),
    /// Read every checkpoint back and compare all digests
    Verify(RunArgs),
}

/// `everstep data`.
#[derive(Debug, Clone, Subcommand)]
pub enum DataCommand {
    /// Render a procedural data set: ten classes of objects as JPEG in tar shards, with labels and attributes
    Make(MakeArgs),
    /// Say what a source of images holds: counts, sizes, labels, and what cannot be read
    Inspect {
        /// A folder of images, a tar, or a folder or pattern of tar shards
        path: String,
        /// JSON on stdout
        #[arg(long)]
        json: bool,
    },
}

/// `everstep data make`.
#[derive(Debug, Clone, Args)]
pub struct MakeArgs {
    /// The folder to fill
    pub dir: PathBuf,
    /// Images to train on
    #[arg(long, default_value_t = 8000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub images: u32,
    /// Images to test on
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    pub test: u32,
    /// Side of an image, in pixels
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(16..=1024))]
    pub size: u32,
    /// Seed of the rendering
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[cfg(test)]
mod tests;
