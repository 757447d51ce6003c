//! `everstep tensorboard`: the curves of a run as an event file; its path goes to stdout.

use std::io::Write;
use std::path::Path;

use crate::cli::tensorboard::TensorboardArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::report::tensorboard::file;

/// Writes the file beside its place and then moves it there, so that a reader never sees half of it.
///
/// # Errors
/// The events cannot be read, there are none, or the folder cannot be written.
pub async fn run(args: &TensorboardArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let events = eye.events().await?;
    let Some(first) = events.first() else {
        return Err(Failure::new(ExitCode::NotFound, "nothing of this run is recorded yet; try again after its first step"));
    };
    let path = args.out.join(format!("events.out.tfevents.{}.everstep", first.at_ms / 1000));
    let bytes = file(&events);
    write(&args.out, &path, &bytes).map_err(|error| {
        Failure::new(ExitCode::Failed, format!("cannot write {}: {error}; choose another folder with --out", path.display()))
    })?;
    writeln!(out, "{}", path.display()).map_err(|error| Failure::new(ExitCode::Failed, format!("cannot tell the file's name: {error}")))?;
    Ok(ExitCode::Done)
}

fn write(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // A name that TensorBoard does not take for an event file.
    let beside = folder.join(".everstep-new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::tests::fake::FakeEye;

    #[tokio::test]
    async fn the_file_is_replaced_and_its_name_told() {
        let folder = tempfile::tempdir().unwrap();
        let args = TensorboardArgs { out: folder.path().join("tb") };
        let eye = FakeEye::new(4, 1_800_000_000_000);
        for _ in 0..2 {
            let mut out = Vec::new();
            assert_eq!(run(&args, &eye, &mut out).await, Ok(ExitCode::Done));
            let path = String::from_utf8(out).unwrap();
            assert_eq!(std::fs::read(path.trim_end()).unwrap(), file(&eye.recorded()));
        }
        assert_eq!(std::fs::read_dir(&args.out).unwrap().count(), 1);
    }
}
