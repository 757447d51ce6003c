//! `everstep tree`.

use clap::Args;

/// Draw the run as a tree: nodes, their ranks, actors and links; what is alike is counted
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep tree --run runs/quickstart
  everstep tree r2 --run runs/quickstart           what lies below one rank
  everstep tree node/n0a1 --run runs/quickstart    one node, with each of its links")]
pub struct TreeArgs {
    /// What to draw, as for `describe`; the run if not given
    #[arg(value_name = "REF")]
    pub reference: Option<String>,
    /// How it is shown; table and wide are this command's own form
    #[arg(short, long, value_enum, default_value_t)]
    pub output: crate::views::output::Output,
}
