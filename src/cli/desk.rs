//! What the commands of the operator's desk share: which run, and who asks.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::selection::{Selection, grammar};
use crate::views::output::Output;

/// A run, and how to prove who asks.
#[derive(Debug, Clone, Args)]
pub struct RunAt {
    /// Where the run lives
    #[arg(long, value_name = "LOCATION", env = "EVERSTEP_RUN")]
    pub run: String,
    /// Where the run's certificates live; within the run by default
    #[arg(long, value_name = "LOCATION")]
    pub secrets: Option<String>,
    /// A certificate made by `everstep cert issue`, for who cannot read the run's authority
    #[arg(long, value_name = "FILE", conflicts_with = "secrets")]
    pub certificate: Option<PathBuf>,
}

/// A command at a run.
#[derive(Debug, Clone, Args)]
pub struct At<T: Args> {
    /// Which run
    #[command(flatten)]
    pub at: RunAt,
    /// What of it
    #[command(flatten)]
    pub what: T,
}

/// A command at a run that can be watched.
#[derive(Debug, Clone, Args)]
pub struct Watched<T: Args> {
    /// Which run
    #[command(flatten)]
    pub at: RunAt,
    /// Look again every second: drawn anew on a terminal, a block a change on a pipe
    #[arg(short, long)]
    pub watch: bool,
    /// What of it
    #[command(flatten)]
    pub what: T,
}

/// `everstep status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// JSON on stdout; the same as -o json
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}

/// How an answer is shown that is told in sentences.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Form {
    /// How it is shown; table and wide are this command's own form, name names what the answer is about
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// JSON on stdout; the same as -o json
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}

impl Form {
    /// As `--json` or without it says.
    #[cfg(test)]
    pub(crate) fn json(json: bool) -> Self {
        Self { json, ..Self::default() }
    }

    /// The form that was asked for, whichever way.
    pub fn output(self) -> Output {
        if self.json { Output::Json } else { self.output }
    }
}

/// A node of a run.
#[derive(Debug, Clone, Args)]
pub struct NodeRef {
    /// The node: its id or the beginning of it, or its rank as in r2
    #[arg(value_name = "NODE")]
    pub node: String,
}

/// `everstep drain`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep drain r2 --run runs/demo --dry-run      what would move where
  everstep drain r2 --run runs/demo --deadline 25s")]
pub struct DrainArgs {
    /// Which node
    #[command(flatten)]
    pub node: NodeRef,
    /// Seconds until the machine is gone: half of them may pass before the step in flight is given up
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub deadline: Option<f64>,
    /// Only say what would move where
    #[arg(long)]
    pub dry_run: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let value = number.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0 && *value <= 86_400.0);
    value.ok_or_else(|| "use seconds, such as 12 or 12s".into())
}

/// `everstep kill`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep kill r2 --run runs/demo --yes                      the process of rank 2
  everstep kill actor/r0/coordinator --run runs/demo --yes    its coordinator: if r0 leads, another does")]
pub struct KillArgs {
    /// A node, by its id or the beginning of it or its rank as in r2; or one of its actors, as in actor/r2/rank
    #[arg(value_name = "REF")]
    pub what: String,
    /// Really: it ends at once, as a crash would end it
    #[arg(long)]
    pub yes: bool,
}

/// `everstep stop`.
#[derive(Debug, Clone, Copy, Args)]
pub struct StopArgs {
    /// End at once, without a last checkpoint: every step after the newest one is given up
    #[arg(long, requires = "yes")]
    pub now: bool,
    /// Really: steps are given up
    #[arg(long, requires = "now")]
    pub yes: bool,
}

/// An order, and how what came of it is shown.
#[derive(Debug, Clone, Args)]
pub struct Ordering<T: Args> {
    /// What is ordered
    #[command(flatten)]
    pub order: T,
    /// How what came of it is shown
    #[command(flatten)]
    pub form: Form,
}

/// A command without words of its own.
#[derive(Debug, Clone, Copy, Args)]
pub struct Nothing {}

/// `everstep bundle`.
#[derive(Debug, Clone, Args)]
pub struct BundleArgs {
    /// The tar to write; everstep-bundle.tar by default
    #[arg(short, long, value_name = "FILE", default_value = "everstep-bundle.tar")]
    pub output: PathBuf,
}

/// `everstep logs`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("limit", |limit| limit.short('n')))]
#[command(after_help = concat!("\
Examples:
  everstep logs --run runs/demo                     for people on a terminal, one JSON object a line on a pipe
  everstep logs --run runs/demo -f --actor link
  everstep logs --run runs/demo --limit 20 -o table
  everstep logs --run runs/demo --filter level!=info --filter message~certificate
  everstep logs --run runs/demo -o name             who said anything

", grammar!(), "Fields are those of the lines, as -o jsonl has them.
With --follow a limit holds for what is shown first, and nothing is sorted."))]
pub struct LogsArgs {
    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,
    /// Only lines of this actor, such as coordinator
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Which of them
    #[command(flatten)]
    pub selection: Selection,
    /// How they are shown: a table on a terminal and jsonl on a pipe if not given; json is one object a line too
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
}

/// `everstep cert`.
#[derive(Debug, Clone, Subcommand)]
pub enum CertCommand {
    /// Make a certificate for a person who cannot read the run's authority
    Issue(At<IssueArgs>),
    /// Mint tokens, each good for one certificate of a node that cannot read the run's authority
    Token(At<TokenArgs>),
    /// Give certificates for tokens, and renew them, until it is interrupted
    Serve(At<ServeArgs>),
    /// Let nobody in any more with a certificate, and end the links that it has, at all nodes
    Deny(At<DenyArgs>),
    /// List the certificates that are denied, since when and by whom
    Denied(At<Nothing>),
}

/// `everstep cert issue`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep cert issue --run runs/demo --role viewer --ttl 24h -o viewer.pem
  everstep status --run runs/demo --certificate viewer.pem")]
pub struct IssueArgs {
    /// What it allows
    #[arg(long, value_enum, default_value_t = CertRole::Viewer)]
    pub role: CertRole,
    /// How long it is good for
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = lifetime)]
    pub ttl: std::time::Duration,
    /// The file to write, readable by its owner alone
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// `everstep cert token`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep cert token --run runs/demo --count 8 --ttl 1h > tokens
  everstep cert serve --run runs/demo --listen 10.0.0.7:9495          here, beside the authority
  everstep train recipe.toml --run /shared/demo --join 10.0.0.7:9495 --token-file tokens      there")]
pub struct TokenArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// How long they can be used
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
    pub ttl: std::time::Duration,
}

/// `everstep cert serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where to listen (UDP)
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9495")]
    pub listen: std::net::SocketAddr,
}

/// `everstep cert deny`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep cert deny n3f09c2d1 --run runs/demo      as `cert issue`, events and tables name it
  everstep cert deny r2 --run runs/demo             the certificate of this rank's node
  everstep cert denied --run runs/demo

It cannot be taken back: who is to come in again gets another certificate.")]
pub struct DenyArgs {
    /// The certificate: its id or the first 8 digits of it or more, or a rank as in r2
    #[arg(value_name = "CERTIFICATE")]
    pub key: String,
}

fn lifetime(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || "use a number and s, m, h or d, such as 24h; 366d at most".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = count.checked_mul(unit).filter(|seconds| (1..=366 * 86_400).contains(seconds)).ok_or_else(wrong)?;
    Ok(std::time::Duration::from_secs(seconds))
}

/// What a person's certificate allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CertRole {
    /// To look
    Viewer,
    /// To look and to order
    Admin,
}

/// `everstep completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `everstep man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// A folder for one page a command; the main page goes to stdout without it
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
}
