//! The header of weights that come from elsewhere, and all tensors that fit.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use everstep::model::{Config, Model};
use everstep::weights::Weights;

fn model() -> Option<&'static Model> {
    static MODEL: OnceLock<Option<Model>> = OnceLock::new();
    MODEL.get_or_init(|| Model::new(&Config::default()).ok()).as_ref()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = format!("/dev/shm/everstep-fuzz-{}.safetensors", std::process::id());
    if let (Some(model), Ok(())) = (model(), std::fs::write(&path, bytes)) {
        let _ = Weights::open(model, Path::new(&path));
    }
});
