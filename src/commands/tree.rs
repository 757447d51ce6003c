//! `everstep tree`: the run, or a part of it, as a tree.

use std::io::Write;

use everstep_actors::desk::answer::under;
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::{Item, View};

use super::describe::only;
use crate::cli::tree::TreeArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::views::output::{Output, render};
use crate::views::select::resolve;
use crate::views::talk::{notes, put, say};
use crate::views::tree::tree;

/// Draws what lies below a reference, or below the run.
///
/// # Errors
/// As for `everstep describe`.
pub async fn run(args: &TreeArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let view = eye.look(&Question::default()).await?;
    let mut said = notes(&view);
    if view.items.is_empty() {
        said.push("there is nothing to draw".into());
    }
    say(&said);
    let root = args.reference.as_deref().map(|reference| resolve(&view, reference)).transpose()?;
    let text = match args.output {
        Output::Table | Output::Wide => tree(&view, root),
        other => render(&only(&view, below(&view, root)), &[], other),
    };
    put(out, &text)?;
    Ok(ExitCode::Done)
}

/// The root and what belongs to it, however deep; everything without one.
fn below<'a>(view: &'a View, root: Option<&Item>) -> Vec<&'a Item> {
    let inside = root.map(|root| under(&view.items, &root.reference));
    view.items.iter().filter(|item| inside.as_ref().is_none_or(|inside| inside.contains(&item.reference))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{Fixed, view};

    #[tokio::test]
    async fn the_root_may_be_named() {
        let args = |reference: Option<&str>| TreeArgs { reference: reference.map(str::to_owned), output: Output::Table };
        let (eye, mut whole, mut part) = (Fixed(view(3)), Vec::new(), Vec::new());
        assert_eq!(run(&args(None), &eye, &mut whole).await, Ok(ExitCode::Done));
        assert!(String::from_utf8(whole).unwrap().starts_with("run demo"));
        assert_eq!(run(&args(Some("r1")), &eye, &mut part).await, Ok(ExitCode::Done));
        assert!(String::from_utf8(part).unwrap().starts_with("rank/1  computing"));
        let mut names = Vec::new();
        run(&TreeArgs { output: Output::Name, ..args(Some("r1")) }, &eye, &mut names).await.unwrap();
        let names = String::from_utf8(names).unwrap();
        assert!(names.lines().any(|name| name == "rank/1") && !names.contains("rank/2"), "{names}");
        let failure = run(&args(Some("r9")), &eye, &mut Vec::new()).await.unwrap_err();
        assert_eq!(failure.code, ExitCode::NotFound);
    }
}
