//! `everstep top`: what can be typed.

use clap::{Args, ValueEnum};

use crate::views::output::Output;

/// `everstep top`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
On a terminal the table is drawn anew every second until Ctrl-C; on a pipe one table follows the other.
CPU is that since the table before; in the first table it is the mean since the node started.

Examples:
  everstep top --run runs/quickstart
  everstep top --run runs/quickstart --once --sort memory
  everstep top --run runs/quickstart -n 60 --every 10 > top.txt
  everstep top --run runs/quickstart --once --sort cpu -o name --limit 1")]
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
    /// What comes first
    #[arg(long, value_enum, value_name = "BY", default_value_t = TopSort::Pace)]
    pub sort: TopSort,
    /// Ranks at most; all where this is absent, and on a terminal as many as fit
    #[arg(long, value_name = "RANKS")]
    pub limit: Option<usize>,
    /// How it is shown; in all forms but table each rank comes with its node
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// By what `top` sorts; the greatest come first, but ranks by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TopSort {
    /// How many times as long as the median rank it computes
    Pace,
    /// CPU in use
    Cpu,
    /// Resident memory
    Memory,
    /// Messages that wait in the mailboxes of its node
    Mailbox,
    /// Its number
    Rank,
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
        let args = parse("top -n 3 --every 10 --sort memory --limit 5").unwrap();
        assert_eq!((args.count, args.every, args.sort, args.limit, args.once), (Some(3), 10.0, TopSort::Memory, Some(5), false));
        for wrong in ["top -n 0", "top --once -n 2", "top --sort size"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
