//! A small disk of its own for a run: it can be filled, and made read-only.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::namespace::run;

/// Large enough for the run of a scenario, and quickly filled.
const SIZE: &str = "size=64m";
/// How long writers that are at it are waited for before a disk that is to be read-only.
const BUSY_MAX: Duration = Duration::from_secs(2);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Disk {
    place: PathBuf,
}

impl Disk {
    /// Mounts one.
    ///
    /// # Errors
    /// This machine does not allow it.
    pub(super) fn mount(place: &Path) -> Result<Self, String> {
        let path = place.display().to_string();
        run("mount", &["-t", "tmpfs", "-o", SIZE, "tmpfs", &path])
            .map_err(|error| format!("a small disk cannot be mounted ({error}): run as root, or play it in the local tier"))?;
        Ok(Self { place: place.into() })
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

    /// Makes it a sound disk again.
    pub(super) fn mend(&mut self) -> Result<(), String> {
        self.remount("remount,rw")?;
        match std::fs::remove_file(self.filler()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("the disk cannot be emptied: {error}")),
            _ => Ok(()),
        }
    }

    fn remount(&self, how: &str) -> Result<(), String> {
        run("mount", &["-o", &format!("{how},{SIZE}"), &self.place.display().to_string()]).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", &self.place.display().to_string()]);
    }
}
