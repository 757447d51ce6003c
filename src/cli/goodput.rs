//! `everstep goodput`: what can be asked.

use clap::Args;

use super::desk::Form;
use super::selection::{Selection, grammar};

/// `everstep goodput`.
#[derive(Debug, Clone, Args)]
#[command(after_help = concat!("\
Examples:
  everstep goodput                          what the time of all ranks was spent on; sums to 100 %
  everstep goodput --filter on=stall --sort -percent --limit 5      what cost most
  everstep goodput --json | jq .goodput_percent

", grammar!(), "They choose rows by on, incident,
rank_seconds and percent, or by the headings of the table; the first line is of the whole run, whatever is chosen.

It needs nobody to be alive: it reads the durable events. `everstep history` tells more of the incidents."))]
pub struct GoodputArgs {
    /// Which rows
    #[command(flatten)]
    pub selection: Selection,
    /// Print one JSON object with --json
    #[command(flatten)]
    pub form: Form,
}
