//! Damage to the newest checkpoint of a run that lives in a folder.

use std::path::Path;

use everstep_actors::checkpoint::{Manifest, PartRecord};
use everstep_actors::protocol::ids::Step;

use crate::fault::Mode;

/// Tears a part of the newest checkpoint that was not damaged before, or turns over one of its bits; the checkpoint's step.
pub(crate) fn damage(folder: &Path, mode: Mode, damaged: &[u64], mut draw: impl FnMut(usize) -> usize) -> Option<u64> {
    let steps = std::fs::read_dir(folder.join("checkpoints")).ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut steps: Vec<u64> = steps.filter(|step| !damaged.contains(step)).collect();
    steps.sort_unstable();
    for step in steps.into_iter().rev() {
        let Some(parts) = parts(folder, step).filter(|parts| !parts.is_empty()) else { continue };
        let path = folder.join(&parts[draw(parts.len())].key);
        let Some(mut body) = std::fs::read(&path).ok().filter(|body| !body.is_empty()) else { continue };
        if mode == Mode::Torn {
            body.truncate(body.len() / 2);
        } else {
            let at = draw(body.len());
            body[at] ^= 1 << draw(8);
        }
        return std::fs::write(&path, body).ok().map(|()| step);
    }
    None
}

fn parts(folder: &Path, step: u64) -> Option<Vec<PartRecord>> {
    let body = std::fs::read(folder.join(Manifest::key(Step(step)))).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&body).ok()?;
    serde_json::from_value(value.get("manifest")?.get("parts")?.clone()).ok()
}
