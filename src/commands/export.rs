//! `everstep export`: the trunk for other programs.

use super::output::print;
use crate::cli::{ExitCode, ExportArgs, Failure, Format};
use crate::examine::Run;
use crate::report::bytes;
use crate::weights;

/// Writes a trunk as safetensors, for vissl with its head.
///
/// # Errors
/// As [`Run::weights`]; [`ExitCode::Failed`] when the file cannot be written.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let run = Run::open(&args.state.run)?;
    let (step, units) = run.weights(args.state.step)?;
    let (format, whose) = match args.format {
        Format::Timm => (weights::Format::Timm, "timm"),
        Format::Torchvision => (weights::Format::Torchvision, "torchvision"),
        Format::HuggingFace => (weights::Format::HuggingFace, "transformers"),
        Format::Vissl => (weights::Format::Vissl, "vissl"),
    };
    // Each time the trunk runs its statistics see a batch.
    let batches = step.saturating_mul(run.job().settings().passes() as u64);
    let batches = i64::try_from(batches).unwrap_or(i64::MAX);
    weights::export(run.job().model(), &units, batches, format, &args.output).map_err(|error| Failure::new(ExitCode::Failed, error))?;
    let size = std::fs::metadata(&args.output).map_or(0, |about| about.len());
    let what = if format == weights::Format::Vissl { "trunk, head and prototypes" } else { "trunk" };
    print(&format!("{what} of step {step} written to {} with {whose}'s names ({})", args.output.display(), bytes(size)))
}
