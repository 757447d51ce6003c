//! `everstep tree`: the run, or a part of it, as a tree.

use std::io::Write;

use everstep_actors::desk::question::Question;

use crate::cli::tree::TreeArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
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
    put(out, &tree(&view, root))?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{Fixed, view};

    #[tokio::test]
    async fn the_root_may_be_named() {
        let (eye, mut whole, mut part) = (Fixed(view(3)), Vec::new(), Vec::new());
        assert_eq!(run(&TreeArgs { reference: None }, &eye, &mut whole).await, Ok(ExitCode::Done));
        assert!(String::from_utf8(whole).unwrap().starts_with("run demo"));
        assert_eq!(run(&TreeArgs { reference: Some("r1".into()) }, &eye, &mut part).await, Ok(ExitCode::Done));
        assert!(String::from_utf8(part).unwrap().starts_with("rank/1  computing"));
        let failure = run(&TreeArgs { reference: Some("r9".into()) }, &eye, &mut Vec::new()).await.unwrap_err();
        assert_eq!(failure.code, ExitCode::NotFound);
    }
}
