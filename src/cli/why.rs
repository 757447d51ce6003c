//! `everstep why`: what can be asked.

use clap::Args;

use super::desk::Form;

/// `everstep why`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep why                      why the run waits, or if it does not, what its steps take long for
  everstep why waiting              for whom the run waits
  everstep why slow                 which rank, loader or link is slow
  everstep why rank/3               why rank 3 is as it is (r3 for short)
  everstep why actor/n0a1b/loader   the beginning of a node's id is enough
  everstep why --json | jq -r .at_fault")]
pub struct WhyArgs {
    /// `waiting`, `slow`, or a reference (`rank/2`, `node/n0a1b`, `actor/n0a1b/loader`, `link/…`, `shard/…`, `checkpoint/…`)
    #[arg(value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Print the chain of causes as one JSON object with --json
    #[command(flatten)]
    pub form: Form,
}
