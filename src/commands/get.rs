//! `everstep get`: lists of items.

use std::io::{IsTerminal as _, Write};

use everstep_actors::desk::question::Kind;

use crate::cli::get::GetArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::views::output::render_in;
use crate::views::select::{plural, question};
use crate::views::talk::{notes, nothing, put, say};

/// Writes what there is of the kinds asked for.
///
/// # Errors
/// A filter or a field is none ([`ExitCode::Usage`]), nobody can be asked ([`ExitCode::Unreachable`]), or stdout takes no more.
pub async fn run(args: &GetArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    // Events are read in order of time, and a limit leaves the newest.
    let newest = args.selection.sort.is_none() && args.kinds == [Kind::Event];
    let mut question = question(&args.kinds, &args.selection)?;
    question.sort = question.sort.or_else(|| newest.then(|| "-at_ms".into()));
    let mut view = eye.look(&question).await?;
    if newest {
        view.items.reverse();
    }
    let terminal = std::io::stdout().is_terminal().then(ratatui::crossterm::terminal::size);
    let columns = terminal.and_then(Result::ok).map_or(usize::MAX, |(columns, _)| columns.into());
    put(out, &render_in(&view, &args.kinds, args.output, columns))?;
    let mut said = notes(&view);
    if view.items.is_empty() && view.matched == 0 {
        said.push(nothing(&called(&args.kinds), &args.selection.filter));
    }
    say(&said);
    Ok(ExitCode::Done)
}

/// Kinds in a sentence of which there are none.
fn called(kinds: &[Kind]) -> String {
    let kinds: Vec<&str> = kinds.iter().map(|kind| plural(*kind)).collect();
    kinds.join(" and no ")
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;
    use crate::views::sample::{Fixed, view};

    fn parse(line: &[&str]) -> Result<GetArgs, String> {
        let command = GetArgs::augment_args(Command::new("get"));
        let matches = command.try_get_matches_from([&["get"], line].concat()).map_err(|error| error.to_string())?;
        GetArgs::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    async fn got(line: &[&str]) -> Result<String, Failure> {
        let mut out = Vec::new();
        let code = run(&parse(line).unwrap(), &Fixed(view(4)), &mut out).await?;
        assert_eq!(code, ExitCode::Done);
        Ok(String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn filters_orders_and_limits_are_asked_of_the_run() {
        let line = ["actors", "--filter", "mbox>=3", "--filter", "kind=rank", "--sort", "-node", "--limit", "2", "-o", "name"];
        let text = got(&line).await.unwrap();
        assert!(text.lines().count() == 2 && text.lines().all(|line| line.ends_with("/rank")), "{text}");
        assert_eq!(got(&["ranks,lanes", "-o", "name", "--filter", "step=50", "--limit", "3"]).await.unwrap(), "lane/0\nlane/1\nlane/2\n");
    }

    #[tokio::test]
    async fn events_come_in_order_of_time_and_a_limit_leaves_the_newest() {
        let numbers = |text: String| text.lines().map(|line| line.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(numbers(got(&["events", "-o", "name"]).await.unwrap()), ["0", "1", "2"]);
        assert_eq!(numbers(got(&["events", "-o", "name", "--limit", "2"]).await.unwrap()), ["1", "2"]);
        assert_eq!(numbers(got(&["events", "-o", "name", "--limit", "2", "--sort", "at_ms"]).await.unwrap()), ["0", "1"]);
    }

    #[tokio::test]
    async fn nothing_is_a_header_and_no_failure() {
        assert_eq!(got(&["lane", "--filter", "step>99"]).await.unwrap(), "LANE  STATE  RANK  STEP  DOING  BUSY  WAIT\n");
        for form in ["jsonl", "name"] {
            assert_eq!(got(&["lane", "--filter", "step>99", "-o", form]).await.unwrap(), "");
        }
        let args = parse(&["nodes", "links", "--filter", "rtt_ms>9"]).unwrap();
        assert_eq!(nothing(&called(&args.kinds), &args.selection.filter), "there are no nodes and no links with rtt_ms>9");
        assert_eq!(nothing(&called(&[Kind::Run]), &[]), "there are no runs");
    }

    #[tokio::test]
    async fn a_wrong_field_is_refused_before_anyone_is_asked() {
        let failure = got(&["nodes", "--sort", "-dept"]).await.unwrap_err();
        assert!(failure.code == ExitCode::Usage && failure.sentence.contains("nodes have address"), "{failure}");
    }

    #[test]
    fn kinds_that_there_are_not_name_those_there_are() {
        assert!(parse(&["pods"]).unwrap_err().contains("use one of runs, nodes"));
        assert!(parse(&[]).is_err());
        assert!(parse(&["nodes", "-o", "yaml"]).unwrap_err().contains("jsonl"));
    }
}
