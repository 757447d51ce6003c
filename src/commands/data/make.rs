//! `everstep data make`: renders the procedural data set and a sheet of its images.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use image::ImageFormat;

use crate::cli::{ExitCode, Failure, MakeArgs};
use crate::data::make::{self as renderer, CLASSES, MakeError, Spec, contact_sheet};
use crate::report::progress::{Line, Style};
use crate::report::terminal::Terminal;

/// Parts of the work after which a plain line is told.
const PARTS: usize = 10;

/// Makes the data set, unless it is there already, and the contact sheet; tells what is where.
///
/// # Errors
/// [`ExitCode::Config`] for a spec that cannot be made, [`ExitCode::Refused`] when the folder holds anything else, [`ExitCode::Failed`] when
/// the file system refuses.
pub fn make(args: &MakeArgs, threads: NonZeroUsize) -> Result<String, Failure> {
    let spec = Spec { seed: args.seed, train: args.images as usize, test: args.test as usize, size: args.size, ..Spec::default() };
    let style = Terminal::style(false);
    let terminal = Terminal::new(style, (spec.train + spec.test) as u64);
    let told = AtomicUsize::new(0);
    let progress = |done: usize, total: usize| {
        let part = done * PARTS / total.max(1);
        // Threads report out of order: what is told only grows.
        if style == Style::Bar {
            let most = told.fetch_max(done, Ordering::Relaxed).max(done);
            terminal.show(&Line::Bar { position: most as u64, message: "images".into() });
        } else if told.fetch_max(part, Ordering::Relaxed) < part {
            terminal.show(&Line::Talk(format!("{done} of {total} images")));
        }
    };
    let made = renderer::make(&args.dir, &spec, threads.get(), &progress);
    terminal.finish();
    let made = made.map_err(|error| Failure::new(code(&error), error))?;
    let sheet = write_sheet(&args.dir, &spec)?;
    let dir = args.dir.display();
    let test = if made.test.is_empty() { String::new() } else { format!(", test images: {dir}/test-*.tar") };
    Ok(format!(
        "{dir} {} {} train and {} test images of {} classes\n  train images: {dir}/train-*.tar{test}\n  contact sheet: {}",
        if made.fresh { "now holds" } else { "already holds" },
        spec.train,
        spec.test,
        CLASSES.len(),
        sheet.display()
    ))
}

fn code(error: &MakeError) -> ExitCode {
    match error {
        MakeError::Spec { .. } => ExitCode::Config,
        MakeError::Occupied { .. } => ExitCode::Refused,
        MakeError::Io { .. } => ExitCode::Failed,
    }
}

/// Where the contact sheet of a folder lies: beside it, since a folder of shards that also held an image would be read as neither.
pub fn contact_sheet_path(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push("-contact-sheet.png");
    dir.with_file_name(name)
}

fn write_sheet(dir: &Path, spec: &Spec) -> Result<PathBuf, Failure> {
    let path = contact_sheet_path(dir);
    // Not much wider than it is high for the usual small images, and bounded for large ones.
    let columns = (1024 / spec.size).clamp(2, 12);
    let saved = contact_sheet(spec, columns).save_with_format(&path, ImageFormat::Png);
    saved.map_err(|error| {
        let what = format!("{} cannot be written ({error}); the images are made, free space and repeat the command", path.display());
        Failure::new(ExitCode::Failed, what)
    })?;
    Ok(path)
}
