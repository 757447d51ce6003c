//! `everstep metrics`: one scrape to stdout, the same text as at `/metrics` of the page.

use std::io::Write;

use everstep_actors::desk::question::{Kind, Question};

use crate::cli::metrics::MetricsArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::metrics::{MANY_NODES, text};

/// Prints the metrics.
///
/// # Errors
/// The run cannot be reached, or nobody reads the output.
pub async fn run(_: &MetricsArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let kinds = vec![Kind::Run, Kind::Node, Kind::Rank, Kind::Checkpoint, Kind::Actor];
    let mut view = eye.look(&Question { kinds, ..Question::default() }).await?;
    if view.items.iter().filter(|item| item.kind() == Kind::Node).count() <= MANY_NODES {
        let links = eye.look(&Question { kinds: vec![Kind::Link], ..Question::default() }).await?;
        view.items.extend(links.items);
    }
    let events = eye.events().await?;
    out.write_all(text(&view, &events).as_bytes())
        .map_err(|error| Failure::new(ExitCode::Failed, format!("cannot write the metrics: {error}")))?;
    Ok(ExitCode::Done)
}
