//! `everstep goodput`: what can be asked.

use clap::Args;

use super::desk::Form;

/// `everstep goodput`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep goodput                          what the time of all ranks was spent on; sums to 100 %
  everstep goodput --json | jq .goodput_percent

It needs nobody to be alive: it reads the durable events. `everstep history` tells more of the incidents.")]
pub struct GoodputArgs {
    /// Print one JSON object with --json
    #[command(flatten)]
    pub form: Form,
}
