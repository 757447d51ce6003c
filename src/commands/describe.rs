//! `everstep describe`: one item in full.

use std::io::Write;

use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::{Item, View};

use crate::cli::describe::DescribeArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::views::describe::describe;
use crate::views::output::{Output, render};
use crate::views::select::resolve;
use crate::views::talk::{notes, put, say};

/// Writes the description of what the reference means.
///
/// # Errors
/// There is no such thing ([`ExitCode::NotFound`]), there are several ([`ExitCode::Usage`]), nobody can be asked
/// ([`ExitCode::Unreachable`]), or stdout takes no more.
pub async fn run(args: &DescribeArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let view = eye.look(&Question::default()).await?;
    // Said first: it may be why nothing is found.
    say(&notes(&view));
    let item = resolve(&view, &args.reference)?;
    let text = match args.output {
        Output::Table | Output::Wide => describe(&view, item),
        other => render(&only(&view, [item]), &[], other),
    };
    put(out, &text)?;
    Ok(ExitCode::Done)
}

/// The view with nothing but these items.
pub(super) fn only<'a>(view: &View, items: impl IntoIterator<Item = &'a Item>) -> View {
    let items: Vec<Item> = items.into_iter().cloned().collect();
    let (answered_by, missing) = (view.answered_by.clone(), view.missing.clone());
    View { answered_by, missing, matched: items.len() as u64, items, ..*view }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{Fixed, view};

    #[tokio::test]
    async fn a_short_name_is_enough_and_a_wrong_one_is_not_found() {
        let (eye, mut out) = (Fixed(view(3)), Vec::new());
        let args = |reference: &str| DescribeArgs { reference: reference.into(), output: Output::Table };
        assert_eq!(run(&args("r2"), &eye, &mut out).await, Ok(ExitCode::Done));
        assert!(String::from_utf8(out).unwrap().starts_with("reference           rank/2\n"));
        let (mut json, mut name) = (Vec::new(), Vec::new());
        run(&DescribeArgs { output: Output::Json, ..args("r2") }, &eye, &mut json).await.unwrap();
        let json: View = serde_json::from_slice(&json).unwrap();
        assert_eq!((json.items.len(), json.matched, json.items[0].reference.as_str()), (1, 1, "rank/2"));
        run(&DescribeArgs { output: Output::Name, ..args("r2") }, &eye, &mut name).await.unwrap();
        assert_eq!(String::from_utf8(name).unwrap(), "rank/2\n");
        assert_eq!(run(&args("r7"), &eye, &mut Vec::new()).await.unwrap_err().code, ExitCode::NotFound);
    }
}
