//! A file that asks this node to leave: a notice stands while it is there.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use everstep_actors::clock;
use serde::Deserialize;

use super::{Answer, Ask, Kind, Stands, plain};

/// The most that is read of the file.
const BYTES_MAX: u64 = 64 << 10;

/// What may stand in the file, and in the answer of a URL: all of it optional, as JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wish {
    /// Seconds until this node has to be gone.
    deadline_s: Option<f64>,
    /// The reason, for people.
    because: Option<String>,
}

impl Wish {
    /// The wish in a text; an empty one names neither deadline nor reason. `None` where it is no such JSON.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() { Some(Self::default()) } else { serde_json::from_str(text).ok() }
    }

    /// The notice of a wish that was made `age` ago, by `who`. A deadline below zero is over, one beyond all bounds is none.
    pub(super) fn stands(self, age: Duration, who: &str) -> Stands {
        let deadline = self.deadline_s.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let because = self.because.map_or_else(|| format!("{who} asks this node to leave"), |because| plain(&because));
        Stands { kind: Kind::Request, left: deadline.map(|deadline| deadline.saturating_sub(age)), because }
    }
}

/// A path that is looked at.
#[derive(Debug, Clone)]
pub(super) struct Leave {
    pub(super) path: PathBuf,
}

impl Ask for Leave {
    async fn ask(&mut self) -> Answer {
        let path = self.path.clone();
        // A path on a server that is away may block for long: no thread of the runtime waits for it.
        let read = tokio::task::spawn_blocking(move || look(&path, clock::wall_ms())).await;
        read.unwrap_or_else(|why| Answer::Silent(why.to_string()))
    }
}

/// Looks at the path once. The deadline counts from the file's last change.
pub(super) fn look(path: &Path, now_ms: u64) -> Answer {
    match fs::metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Answer::Clear,
        Err(error) => Answer::Silent(error.to_string()),
        // Opening a pipe would wait for its writer.
        Ok(metadata) if !metadata.is_file() => Answer::Silent("it is no regular file".into()),
        Ok(metadata) => read(path).map_or_else(
            |error| Answer::Silent(error.to_string()),
            |text| {
                let who = path.display().to_string();
                // It may still be being written; that it is there says enough.
                let wish = Wish::parse(&text).unwrap_or_default();
                Answer::Stands(wish.stands(age(&metadata, now_ms), &who))
            },
        ),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn age(metadata: &Metadata, now_ms: u64) -> Duration {
    let changed = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    changed.map_or(Duration::ZERO, |at| Duration::from_millis(now_ms).saturating_sub(at))
}
