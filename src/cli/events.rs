//! `everstep events`: which events are shown.

use clap::{Args, ValueEnum};

use super::desk::Form;
use super::selection::{Selection, grammar};
use crate::judge::moment::{Moment, span};

/// `everstep events`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("limit", |limit| limit.short('n')))]
#[command(after_help = concat!("\
Examples:
  everstep events                      everything but steps, oldest first, each told once
  everstep events -f --since 10m       the last ten minutes, then what happens
  everstep events --severity warning   what went wrong
  everstep events -f --filter event=node_lost
  everstep events --all --filter event=step_committed --filter 'detail.seconds>2' --sort -detail.seconds --limit 5
  everstep events --json --all | jq -r 'select(.event == \"step_committed\") | .seconds'

", grammar!(), "Fields are those of `everstep explain event`.
With --follow a limit holds for what is shown first, and nothing is sorted.

It needs nobody to be alive: it reads the durable events. All times are UTC."))]
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
    /// Which of them
    #[command(flatten)]
    pub selection: Selection,
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
