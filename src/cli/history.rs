//! `everstep history`: what can be asked of the past.

use clap::Args;

use super::desk::Form;
use super::selection::{Selection, grammar};
use crate::judge::moment::{Moment, span};

/// `everstep history`.
#[derive(Debug, Clone, Args)]
#[command(after_help = concat!("\
Examples:
  everstep history                               all incidents: when, how long, why, what they cost
  everstep history --at 02:14                    what was at 02:14 UTC, and what happened within 2 min of it
  everstep history --at 2026-11-24T02:14 --around 10m
  everstep history --at -10m                     ten minutes ago
  everstep history --filter kind=loss --sort -stalled --limit 5      the losses that cost most

", grammar!(), "They choose incidents, by the fields of
`everstep history --json` or the headings of the table.

It needs nobody to be alive: it reads the durable events. All times are UTC."))]
pub struct HistoryArgs {
    /// The moment: 02:14, 2026-11-24T02:14 (both UTC) or -10m
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true, value_parser = Moment::parse)]
    pub at: Option<Moment>,
    /// How much before and after the moment to tell
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = span)]
    pub around: u64,
    /// Print the incidents, also with --at
    #[arg(long)]
    pub incidents: bool,
    /// Which incidents
    #[command(flatten)]
    pub selection: Selection,
    /// Print one JSON object with --json
    #[command(flatten)]
    pub form: Form,
}
