//! A store that does not tell what it did: a file that processes look for with each of their writes.

use std::path::{Path, PathBuf};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Switch {
    file: PathBuf,
    /// Faults that want it.
    on: u32,
}

impl Switch {
    /// That of a run, beside it: the run's own disk may be full.
    pub(super) fn beside(run: &Path) -> Self {
        Self { file: run.with_extension("unknown"), on: 0 }
    }

    /// What processes are told.
    pub(super) fn path(&self) -> &Path {
        &self.file
    }

    /// From now on answers are lost.
    pub(super) fn on(&mut self) -> Result<(), String> {
        self.on += 1;
        let made = std::fs::OpenOptions::new().append(true).create(true).open(&self.file);
        made.map(drop).map_err(|error| format!("{}: {error}", self.file.display()))
    }

    /// One fault less wants it; how many answers were lost so far.
    pub(super) fn off(&mut self) -> u64 {
        self.on = self.on.saturating_sub(1);
        let lost = std::fs::metadata(&self.file).map_or(0, |file| file.len());
        if self.on == 0 {
            let _ = std::fs::remove_file(&self.file);
        }
        lost
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_as_long_as_any_fault_wants_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut switch = Switch::beside(&folder.path().join("run"));
        let file = switch.path().to_owned();
        switch.on().and_then(|()| switch.on()).unwrap();
        std::fs::write(&file, "...").unwrap();
        assert_eq!(switch.off(), 3);
        assert!(file.exists());
        assert_eq!(switch.off(), 3);
        assert!(!file.exists());
        switch.on().unwrap();
        drop(switch);
        assert!(!file.exists());
    }
}
