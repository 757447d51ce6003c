//! The multi-crop loader on one thread: photos to normalised crops, against PIL + torchvision (`peers/loader.py`).
//!
//! Needs `photos.tar` (160 photos of about 0.2 megapixels) in `../shared/data` or `$EVERSTEP_TEST_DATA`.

use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use everstep::data::decode::{DecodeLimits, decode};
use everstep::data::{BadSample, Loader, LoaderOptions, Source};
use everstep_actors::protocol::ids::{Lane, Step};

const IMAGES: u32 = 16;

fn photos() -> Option<PathBuf> {
    let folder = std::env::var_os("EVERSTEP_TEST_DATA").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    let file = folder.join("photos.tar");
    file.is_file().then_some(file)
}

#[allow(clippy::print_stderr)] // A bench that skips has to say so.
fn loader(criterion: &mut Criterion) {
    let Some(file) = photos() else {
        eprintln!("skipped: there is no photos.tar in ../shared/data or $EVERSTEP_TEST_DATA");
        return;
    };
    let source = Arc::new(Source::open(&file.to_string_lossy(), None).expect("the photos open"));
    let options = LoaderOptions { images_per_lane: IMAGES, ..LoaderOptions::default() };
    let loader = Loader::new(Arc::clone(&source), options, Arc::new(|_: &BadSample| {})).expect("the options fit");
    let mut group = criterion.benchmark_group("loader");
    group.throughput(Throughput::Elements(u64::from(IMAGES)));
    let mut step = 0;
    group.bench_function("2x224+6x96, all augmentations", |bencher| {
        bencher.iter(|| {
            step += 1;
            loader.crops(Step(step), Lane(0)).expect("the photos decode")
        });
    });
    let mut sample = 0;
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            sample = (sample + 1) % source.len();
            let bytes = source.bytes(sample).expect("the photos read");
            decode(&bytes, &DecodeLimits::default()).expect("the photos decode")
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = loader
}
criterion_main!(benches);
