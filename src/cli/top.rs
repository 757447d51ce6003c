//! `everstep top`: what can be typed.

use clap::Args;

use super::selection::{Selection, grammar};
use crate::views::output::Output;

/// `everstep top`.
#[derive(Debug, Clone, Args)]
#[command(after_help = concat!("\
On a terminal the table is drawn anew every second until Ctrl-C; on a pipe one table follows the other.
CPU is that since the table before; in the first table it is the mean since the node started.

Examples:
  everstep top --run runs/quickstart
  everstep top --run runs/quickstart --once --sort -memory
  everstep top --run runs/quickstart --filter 'pace>1.5' --filter host~box
  everstep top --run runs/quickstart -n 60 --every 10 > top.txt
  everstep top --run runs/quickstart --once --sort -cpu -o name --limit 1

", grammar!(), "Fields are the headings of the table.
Without --sort the slowest come first, and on a terminal as many as fit."))]
pub struct TopArgs {
    /// Print one table and end
    #[arg(long, conflicts_with = "count")]
    pub once: bool,
    /// End after so many tables
    #[arg(short = 'n', long = "count", value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Seconds between two tables
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub every: f64,
    /// Which ranks
    #[command(flatten)]
    pub selection: Selection,
    /// How it is shown; in all forms but table each rank comes with its node
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn parse(line: &str) -> Result<TopArgs, clap::Error> {
        let command = TopArgs::augment_args(Command::new("top"));
        TopArgs::from_arg_matches(&command.try_get_matches_from(line.split(' '))?)
    }

    #[test]
    fn the_definition_is_sound() {
        TopArgs::augment_args(Command::new("top")).debug_assert();
        let args = parse("top -n 3 --every 10 --sort -memory --limit 5").unwrap();
        assert_eq!((args.count, args.every, args.once), (Some(3), 10.0, false));
        assert_eq!((args.selection.sort.as_deref(), args.selection.limit), (Some("-memory"), Some(5)));
        for wrong in ["top -n 0", "top --once -n 2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
