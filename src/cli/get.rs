//! `everstep get`.

use clap::Args;
use everstep_actors::desk::question::Kind;

use super::selection::{Selection, grammar};
use crate::views::output::Output;
use crate::views::select;

/// List what there is of one kind or of several: nodes, ranks, actors, lanes, shards, checkpoints, events, links
#[derive(Debug, Clone, Args)]
#[command(after_help = concat!("\
Examples:
  everstep get nodes --run runs/quickstart
  everstep get actors --run runs/quickstart --filter 'mbox>=3' --sort -oldest
  everstep get actors --run runs/quickstart --filter 'state!=idle' --filter 'node=n0a1b2c3d'
  everstep get events --run runs/quickstart --filter severity!=info -o wide
  everstep get ranks --run runs/quickstart -o name
  everstep get nodes,links --run runs/quickstart -o jsonl

", grammar!(), "Fields are those of `everstep explain KIND`, and the headings of
the table. Without --sort items come by name, and events by time. Without items the exit code is 0."))]
pub struct GetArgs {
    /// Kinds, for one or for many (actor, actors), several with commas between them
    #[arg(value_name = "KIND", required = true, value_delimiter = ',', value_parser = select::kind)]
    pub kinds: Vec<Kind>,
    /// How to write them
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = Output::Table)]
    pub output: Output,
    /// Which of them
    #[command(flatten)]
    pub selection: Selection,
}
