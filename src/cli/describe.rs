//! `everstep describe`.

use clap::Args;

/// Tell everything about one thing: its state and since when, every number with its unit, what belongs to it, its last error
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep describe r2 --run runs/quickstart                a rank
  everstep describe n0a1 --run runs/quickstart              a node, by the beginning of its id
  everstep describe actor/r2/rank --run runs/quickstart     an actor of the node of rank 2
  everstep describe s40 --run runs/quickstart               a checkpoint
  everstep describe node/n0a1b2c3d --run runs/quickstart

`everstep get KIND -o name` lists the names. Exit code 3: there is nothing of this name.")]
pub struct DescribeArgs {
    /// What: run, node/ID, rank/3 or r3, actor/ID/NAME, lane/7 or l7, shard/UNIT/N, checkpoint/40 or s40, event/ID/MS, link/ID/ID
    #[arg(value_name = "REF")]
    pub reference: String,
    /// How it is shown; table and wide are this command's own form
    #[arg(short, long, value_enum, default_value_t)]
    pub output: crate::views::output::Output,
}
