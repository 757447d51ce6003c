//! `everstep traces`: traces to a collector, or to stdout.

use std::io::Write;

use everstep_actors::desk::question::{Kind, Question};

use crate::cli::traces::TracesArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::traces::{requests, send, spans};

/// Sends or prints the traces.
///
/// # Errors
/// The events cannot be read, there is nothing to tell, or the collector does not take it.
pub async fn run(args: &TracesArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let unreachable = |sentence: String| Failure::new(ExitCode::Unreachable, sentence);
    let view = eye.look(&Question { kinds: vec![Kind::Run], ..Question::default() }).await?;
    let events = eye.events().await?;
    let name = view.run().map(|run| run.name.as_str()).unwrap_or_default();
    let spans = spans(name, &events, args.every);
    if spans.is_empty() {
        return Err(Failure::new(ExitCode::NotFound, "no step and no change of epoch is recorded yet; try again later or with --every 1"));
    }
    for request in requests(name, spans) {
        let json = serde_json::to_vec(&request).map_err(|error| Failure::new(ExitCode::Internal, error))?;
        match &args.endpoint {
            Some(endpoint) => send::post(endpoint, json).await.map_err(unreachable)?,
            None => out
                .write_all(&[json.as_slice(), b"\n"].concat())
                .map_err(|error| Failure::new(ExitCode::Failed, format!("cannot write the traces: {error}")))?,
        }
    }
    Ok(ExitCode::Done)
}
