//! `everstep events`: which events are shown.

use clap::{Args, ValueEnum};

use super::desk::Form;
use crate::judge::moment::{Moment, span};

/// `everstep events`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep events                      everything but steps, oldest first, each told once
  everstep events -f --since 10m       the last ten minutes, then what happens
  everstep events --severity warning   what went wrong
  everstep events --json --all | jq -r 'select(.event == \"step_committed\") | .seconds'

It needs nobody to be alive: it reads the durable events. All times are UTC.")]
pub struct EventsArgs {
    /// Go on with what happens, until it is interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// Only what happened since: 10m (ago), 02:14, 2026-11-24T02:14 (both UTC)
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true, value_parser = Moment::parse)]
    pub since: Option<Moment>,
    /// Only what matters at least this much
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = AtLeast::Info)]
    pub severity: AtLeast,
    /// Steps as well
    #[arg(long)]
    pub all: bool,
    /// Only the newest of what would be shown first
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub limit: Option<usize>,
    /// Add the events' names, and cut nothing
    #[arg(long)]
    pub wide: bool,
    /// Print one JSON object a line with --json
    #[command(flatten)]
    pub form: Form,
    /// How often to look for news with --follow
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = span, hide = true)]
    pub poll: u64,
}

/// How much an event has to matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AtLeast {
    /// Everything
    Info,
    /// Something was lost, replaced or put off
    Warning,
    /// Somebody has to look
    Error,
}
