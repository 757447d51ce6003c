//! `everstep doctor`: what can be asked.

use clap::Args;

use super::desk::Form;

/// `everstep doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep doctor                    look at everything; ends with 5 when a fault stands
  everstep doctor --list             what it looks for, from when on, and what to do about it
  everstep doctor --json | jq '.findings[] | .lint'

Exit codes:
  0  no fault (there may be warnings and notes)   4  unreachable   5  a fault stands")]
pub struct DoctorArgs {
    /// Print the catalogue of lints; looks at no run
    #[arg(long)]
    pub list: bool,
    /// Print the findings, or the catalogue, as one JSON document with --json
    #[command(flatten)]
    pub form: Form,
}
