//! `everstep status`: the run on one screen, from its leader, a member, or what its store still tells.

use everstep_actors::desk::question::{Kind, Question};
use everstep_actors::desk::view::{Properties, Scope, View};

use crate::cli::desk::StatusArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::views::output::{Output, render};
use crate::views::status;
use crate::views::talk::{notes, put, say};

/// Shows who is in, which step, since when, how fast, and why the run waits.
///
/// # Errors
/// There is no run, or it cannot be read.
pub async fn run(args: &StatusArgs, eye: &dyn Eye, out: &mut dyn std::io::Write) -> Result<ExitCode, Failure> {
    let kinds = vec![Kind::Run, Kind::Node, Kind::Rank, Kind::Checkpoint, Kind::Event];
    let question = Question { kinds, ..Question::default() };
    let view = eye.look(&question).await?;
    let output = if args.json { Output::Json } else { args.output };
    let text = match output {
        Output::Table | Output::Wide => status::status(&view, &[]),
        _ => render(&view, &[], output),
    };
    put(out, &text)?;
    say(&notes(&view));
    Ok(code(&view))
}

/// A run that lives or is complete is well.
fn code(view: &View) -> ExitCode {
    let complete = view.items.iter().any(|item| match &item.properties {
        Properties::Run(run) => run.steps > 0 && run.step >= run.steps,
        _ => false,
    });
    if view.scope != Scope::Store || complete { ExitCode::Done } else { ExitCode::Unreachable }
}
