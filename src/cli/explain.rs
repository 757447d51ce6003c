//! `everstep explain`.

use clap::Args;

use super::desk::Form;

/// Say what a field means, or list the fields of a kind
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep explain actor                  all fields of actors
  everstep explain actor.depth            one of them
  everstep explain actor.error.root_cause
  everstep explain heard_age_ms           wherever there is one of this name

Needs no run.")]
pub struct ExplainArgs {
    /// A kind (actor), a field of it (actor.depth), item for what all have, or view for what is around them
    #[arg(value_name = "FIELD")]
    pub field: String,
    /// How it is shown
    #[command(flatten)]
    pub form: Form,
}
