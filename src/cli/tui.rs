//! `everstep tui`: what can be typed.

use clap::Args;

/// `everstep tui`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Keys: 1-6 or Tab change the page, arrows or j k move, Enter opens, / filters, ? explains, q quits.

Examples:
  everstep tui --run runs/quickstart
  everstep tui --run runs/quickstart --page members
  NO_COLOR=1 everstep tui --run runs/quickstart --ascii")]
pub struct TuiArgs {
    /// Seconds between two looks at the run
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub every: f64,
    /// The page to begin with
    #[arg(long, value_enum, value_name = "PAGE", default_value_t = Page::Overview)]
    pub page: Page,
    /// Draw with plain ASCII, as where the locale is not UTF-8
    #[arg(long)]
    pub ascii: bool,
}

/// A page of the terminal interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Page {
    /// State, progress, loss, throughput, warnings
    Overview,
    /// One cell for each rank
    Members,
    /// The run down to its actors
    Tree,
    /// Mailboxes and handlers
    Actors,
    /// What happened
    Events,
    /// When nothing was computed, and why
    Incidents,
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn parse(line: &str) -> Result<TuiArgs, clap::Error> {
        let command = TuiArgs::augment_args(Command::new("tui"));
        TuiArgs::from_arg_matches(&command.try_get_matches_from(line.split(' '))?)
    }

    #[test]
    fn the_definition_is_sound() {
        TuiArgs::augment_args(Command::new("tui")).debug_assert();
        let args = parse("tui --page members --every 0.5 --ascii").unwrap();
        assert_eq!((args.page, args.every, args.ascii), (Page::Members, 0.5, true));
        assert!(parse("tui --page nowhere").is_err());
    }
}
