//! Writes the dataset: into a hidden folder beside the target, which takes the target's name when all is on disk.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use serde::{Deserialize, Serialize};

use super::{BACKGROUNDS, CLASSES, LIGHTS, Made, MakeError, REGIONS, Sample, Spec, Split, render};

/// Raised whenever the renderer's output changes, so that an older dataset is not taken for this one's.
const RENDERER: u32 = 2;
const DESCRIPTION: &str = "dataset.json";
/// Images between two calls of the progress callback, a thread.
const REPORT_EVERY: usize = 50;

/// `dataset.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    renderer: u32,
    spec: Spec,
    classes: Vec<String>,
    regions: Vec<String>,
    backgrounds: Vec<String>,
    lights: Vec<String>,
    shards: Vec<String>,
}

impl Description {
    fn of(spec: &Spec) -> Self {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            renderer: RENDERER,
            spec: spec.clone(),
            classes: own(&CLASSES),
            regions: own(&REGIONS),
            backgrounds: own(&BACKGROUNDS),
            lights: own(&LIGHTS),
            shards: jobs(spec).iter().map(Shard::name).collect(),
        }
    }
}

/// Images `first..end` of a split.
#[derive(Debug, Clone, Copy)]
struct Shard {
    split: Split,
    number: usize,
    first: usize,
    end: usize,
}

impl Shard {
    fn name(&self) -> String {
        format!("{}-{:06}.tar", self.split.name(), self.number)
    }
}

fn jobs(spec: &Spec) -> Vec<Shard> {
    let of = |split: Split| {
        let images = spec.images(split);
        (0..images.div_ceil(spec.shard_images)).map(move |number| {
            let first = number * spec.shard_images;
            Shard { split, number, first, end: images.min(first + spec.shard_images) }
        })
    };
    Split::ALL.into_iter().flat_map(of).collect()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> MakeError {
    let path = path.to_owned();
    move |source| MakeError::Io { path, source }
}

/// Makes the dataset in `dir` with that many threads (0 counts as 1), or does nothing if it is there already. `on_progress` gets the
/// images done so far and in all, from several threads, not always in rising order. A call beside another for the same parent folder
/// waits until that one is done.
///
/// # Errors
/// [`MakeError::Spec`] for a spec out of bounds, [`MakeError::Occupied`] if the folder holds anything else, [`MakeError::Io`] if the file
/// system refuses; then `dir` is as it was.
pub fn make(dir: &Path, spec: &Spec, threads: usize, on_progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Made, MakeError> {
    spec.check()?;
    let dir = std::path::absolute(dir).map_err(failed(dir))?;
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(MakeError::Occupied { path: dir, holds: "is the root of the file system" });
    };
    fs::create_dir_all(parent).map_err(failed(parent))?;
    let lock = File::open(parent).map_err(failed(parent))?;
    lock.lock().map_err(failed(parent))?;
    let wanted = Description::of(spec);
    if present(&dir, &wanted)? {
        return Ok(made(&dir, spec, false));
    }
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".making");
    let building = parent.join(hidden);
    // Under the lock no other call is at work here: what stands is from one that was killed.
    if building.exists() {
        fs::remove_dir_all(&building).map_err(failed(&building))?;
    }
    let result = fill(&building, spec, &wanted, threads, on_progress)
        .and_then(|()| fs::rename(&building, &dir).map_err(failed(&dir)))
        .and_then(|()| lock.sync_all().map_err(failed(parent)));
    if let Err(error) = result {
        // The first error is the one to tell; what cannot be removed now is removed by the next call.
        let _ = fs::remove_dir_all(&building);
        return Err(error);
    }
    Ok(made(&dir, spec, true))
}

fn made(dir: &Path, spec: &Spec, fresh: bool) -> Made {
    let of = |split: Split| jobs(spec).iter().filter(|job| job.split == split).map(|job| dir.join(job.name())).collect();
    Made { train: of(Split::Train), test: of(Split::Test), fresh }
}

/// Whether the wanted dataset is there whole; an error if anything else is.
fn present(dir: &Path, wanted: &Description) -> Result<bool, MakeError> {
    let occupied = |holds| Err(MakeError::Occupied { path: dir.to_owned(), holds });
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(dir)(error)),
        Ok(meta) if !meta.is_dir() => return occupied("is a file"),
        Ok(_) => {}
    }
    if fs::read_dir(dir).map_err(failed(dir))?.next().is_none() {
        return Ok(false);
    }
    let path = dir.join(DESCRIPTION);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return occupied("holds files that are no dataset made here"),
        Err(error) => return Err(failed(&path)(error)),
    };
    match serde_json::from_slice::<Description>(&text) {
        Ok(found) if found == *wanted => {}
        _ => return occupied("holds a dataset made from another spec"),
    }
    if wanted.shards.iter().any(|shard| !dir.join(shard).is_file()) {
        return occupied("holds this dataset with shards missing");
    }
    Ok(true)
}

fn fill(
    dir: &Path,
    spec: &Spec,
    description: &Description,
    threads: usize,
    on_progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(), MakeError> {
    fs::create_dir(dir).map_err(failed(dir))?;
    let jobs = jobs(spec);
    let (next, done, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let total = spec.train + spec.test;
    let progress = |images: usize| on_progress(done.fetch_add(images, Ordering::Relaxed) + images, total);
    let first_error = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len()) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stop.load(Ordering::Relaxed)) {
                    let path = dir.join(job.name());
                    if let Err(source) = write_shard(&path, spec, job, &stop, &progress) {
                        stop.store(true, Ordering::Relaxed);
                        let mut slot = first_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        slot.get_or_insert(MakeError::Io { path, source });
                    }
                }
            });
        }
    });
    if let Some(error) = first_error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error);
    }
    write_file(&dir.join("classes.txt"), format!("{}\n", CLASSES.join("\n")).as_bytes())?;
    let mut text = serde_json::to_vec_pretty(description).expect("plain names and numbers are always JSON");
    text.push(b'\n');
    write_file(&dir.join(DESCRIPTION), &text)?;
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(failed(dir))
}

fn write_file(path: &PathBuf, bytes: &[u8]) -> Result<(), MakeError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(failed(path))
}

fn write_shard(path: &Path, spec: &Spec, shard: &Shard, stop: &AtomicBool, progress: &dyn Fn(usize)) -> io::Result<()> {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(path)?));
    let mut unreported = 0;
    for index in shard.first..shard.end {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let sample = render(spec, shard.split, index);
        append(&mut tar, &format!("{index:08}.jpg"), &jpeg(&sample, spec)?)?;
        append(&mut tar, &format!("{index:08}.cls"), sample.attributes.class.as_bytes())?;
        append(&mut tar, &format!("{index:08}.json"), &serde_json::to_vec(&sample.attributes)?)?;
        unreported += 1;
        if unreported == REPORT_EVERY || index + 1 == shard.end {
            progress(unreported);
            unreported = 0;
        }
    }
    tar.into_inner()?.into_inner().map_err(|error| error.into_error())?.sync_all()
}

fn jpeg(sample: &Sample, spec: &Spec) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, spec.quality)
        .encode(sample.image.as_raw(), spec.size, spec.size, ExtendedColorType::Rgb8)
        .map_err(io::Error::other)?;
    Ok(bytes)
}

/// One entry whose header depends on its name and length only.
fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, bytes)
}
