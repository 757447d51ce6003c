//! A small disk of its own for a run: it can be filled, made read-only, and, where it is a volume, stand still.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::namespace::run;
use super::stall::{Stall, Stands};

/// Large enough for the run of a scenario, and quickly filled.
const SIZE: u64 = 64 << 20;
/// How long writers that are at it are waited for before a disk that is to be read-only.
const BUSY_MAX: Duration = Duration::from_secs(2);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Disk {
    place: PathBuf,
    /// What it lies in; in memory without.
    volume: Option<PathBuf>,
    stands: Arc<Stands>,
}

impl Disk {
    /// Mounts one; one that can stand still is a volume in a file beside its place.
    ///
    /// # Errors
    /// This machine does not allow it.
    pub(super) fn mount(place: &Path, stalls: bool) -> Result<Self, String> {
        let disk = Self { place: place.into(), volume: stalls.then(|| place.with_extension("volume")), stands: Arc::default() };
        disk.set_up().map_err(|error| format!("a small disk cannot be mounted ({error}): run as root, or play it in the local tier"))?;
        Ok(disk)
    }

    fn set_up(&self) -> Result<(), String> {
        let path = self.place.display().to_string();
        let Some(volume) = &self.volume else {
            return run("mount", &["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs", &path]).map(drop);
        };
        let file = volume.display().to_string();
        let made = std::fs::File::create(volume).and_then(|made| made.set_len(SIZE));
        made.map_err(|error| format!("{file}: {error}"))?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0,root_owner=0:0", &file])?;
        run("mount", &["-o", "loop,noatime", &file, &path])?;
        let lost = self.place.join("lost+found");
        std::fs::remove_dir(&lost).map_err(|error| format!("{}: {error}", lost.display()))
    }

    fn filler(&self) -> PathBuf {
        self.place.join(".filler")
    }

    /// Fills it to the last byte.
    pub(super) fn fill(&mut self) -> Result<(), String> {
        let mut file = std::fs::File::create(self.filler()).map_err(|error| format!("the disk cannot be filled: {error}"))?;
        let mut block = vec![0u8; 1 << 20];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
        Ok(())
    }

    /// Makes it read-only, between two writes.
    pub(super) fn freeze(&mut self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            match self.remount("remount,ro") {
                Err(because) if began.elapsed() > BUSY_MAX => return Err(because),
                Ok(()) => return Ok(()),
                // The command itself takes its time: no spin.
                Err(_) => {}
            }
        }
    }

    /// Has writes to it wait for `most`; with `late` they get through from time to time.
    pub(super) fn stall(&self, most: Duration, late: bool) -> Stall {
        Stall::begin(&self.place, &self.stands, most, late)
    }

    /// Makes it a sound disk again.
    pub(super) fn mend(&mut self) -> Result<(), String> {
        self.remount("remount,rw")?;
        match std::fs::remove_file(self.filler()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("the disk cannot be emptied: {error}")),
            _ => Ok(()),
        }
    }

    fn remount(&self, how: &str) -> Result<(), String> {
        let how = if self.volume.is_some() { how.to_owned() } else { format!("{how},size={SIZE}") };
        run("mount", &["-o", &how, &self.place.display().to_string()]).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", &self.place.display().to_string()]);
        if let Some(volume) = &self.volume {
            let _ = std::fs::remove_file(volume);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn writes_wait_for_a_disk_that_stands_still_and_are_done_later() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("disk");
        std::fs::create_dir(&place).unwrap();
        let disk = match Disk::mount(&place, true) {
            Ok(disk) => disk,
            Err(because) => return println!("skipped: {because}"),
        };
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        let mut stall = disk.stall(Duration::from_secs(60), false);
        let file = place.join("file");
        // Until it stands still writes are done at once.
        let mut writer = loop {
            let mut writer = Command::new("sh").args(["-c", &format!("echo one > {}", file.display())]).spawn().unwrap();
            let began = Instant::now();
            while writer.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_millis(500) {
                std::thread::yield_now();
            }
            if writer.try_wait().unwrap().is_none() {
                break writer;
            }
        };
        let waited = stall.end().unwrap();
        assert!(writer.wait().unwrap().success() && waited > 0);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\n");
        // Whom two hold still moves when both are over.
        let (mut one, mut other) = (disk.stall(Duration::from_millis(50), false), disk.stall(Duration::from_millis(50), true));
        std::fs::write(&file, "both").unwrap();
        one.end().and_then(|_| other.end()).unwrap();
        // One that nobody ends moves again by itself.
        let mut short = disk.stall(Duration::from_millis(10), true);
        while !short.is_over() {
            std::thread::yield_now();
        }
        short.end().unwrap();
        std::fs::write(&file, "two").unwrap();
    }
}
