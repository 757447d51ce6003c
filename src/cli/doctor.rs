//! `everstep doctor`: what can be asked.

use clap::Args;

use super::desk::Form;
use super::selection::{Selection, grammar};

/// `everstep doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = concat!("\
Examples:
  everstep doctor                    look at everything; ends with 5 when a fault stands
  everstep doctor --list             what it looks for, from when on, and what to do about it
  everstep doctor --filter grade=fault --filter reference~node/ -o jsonl
  everstep doctor --json | jq '.findings[] | .lint'

", grammar!(), "They choose findings by lint, grade,
reference, says and remedy, with --list lints. The summary and the exit code are those of the whole run, whatever is chosen.

Exit codes:
  0  no fault (there may be warnings and notes)   4  unreachable   5  a fault stands"))]
pub struct DoctorArgs {
    /// Print the catalogue of lints; looks at no run
    #[arg(long)]
    pub list: bool,
    /// Which findings
    #[command(flatten)]
    pub selection: Selection,
    /// Print the findings, or the catalogue, as one JSON document with --json
    #[command(flatten)]
    pub form: Form,
}
