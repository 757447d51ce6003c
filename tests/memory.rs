//! The bytes that a step of one lane really takes, against what the memory plan predicts: every allocation of the process is counted. With the feature
//! `tch` libtorch's too, in f32 and in 16 bits.

#![expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]
#![expect(unsafe_code, reason = "an allocator that counts stands in the place of the standard one")]
#![expect(clippy::print_stdout, reason = "how close it came is worth reading")]

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use everstep::config::{Override, Recipe};
use everstep::data::LaneCrops;
use everstep::planning::{footprint, placement, recompute};
use everstep::setup;
use everstep::train::Swav;
use everstep_actors::protocol::ids::{Lane, Step, UnitId};
use everstep_actors::workload::{Aborted, Batch, CallId, Collective, Peers, Workload};

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Aborted>> + Send>>;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

/// The system's allocator, counting the bytes that are live.
#[cfg(not(feature = "tch"))]
mod counted {
    use std::alloc::{GlobalAlloc, Layout, System};

    use super::*;

    struct Counting;

    // SAFETY: every call is handed to the system's allocator as it is; counting touches no memory of the caller.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            grown(layout.size());
            // SAFETY: the caller keeps the trait's contract.
            unsafe { System.alloc(layout) }
        }
        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: as above.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;
}

/// The C library's functions, counting the bytes that are live: libtorch takes its memory there.
#[cfg(feature = "tch")]
mod counted {
    use std::ffi::{c_int, c_void};

    use super::*;

    unsafe extern "C" {
        fn __libc_malloc(size: usize) -> *mut c_void;
        fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
        fn __libc_realloc(pointer: *mut c_void, size: usize) -> *mut c_void;
        fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
        fn __libc_free(pointer: *mut c_void);
    }

    fn size(pointer: *mut c_void) -> usize {
        // SAFETY: callers hand on what the C library gave and has not taken back, or null.
        unsafe { libc::malloc_usable_size(pointer) }
    }

    fn given(pointer: *mut c_void) -> *mut c_void {
        grown(size(pointer));
        pointer
    }

    fn taken(pointer: *mut c_void) {
        LIVE.fetch_sub(size(pointer), Ordering::Relaxed);
    }

    // SAFETY of all: the callers keep the contracts of the C library's functions, which do the work.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        given(unsafe { __libc_malloc(size) })
    }
    #[unsafe(no_mangle)]
    unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
        given(unsafe { __libc_calloc(count, size) })
    }
    #[unsafe(no_mangle)]
    unsafe extern "C" fn realloc(pointer: *mut c_void, size: usize) -> *mut c_void {
        taken(pointer);
        given(unsafe { __libc_realloc(pointer, size) })
    }
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
        given(unsafe { __libc_memalign(alignment, size) })
    }
    #[unsafe(no_mangle)]
    unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
        given(unsafe { __libc_memalign(alignment, size) })
    }
    #[unsafe(no_mangle)]
    unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
        let pointer = given(unsafe { __libc_memalign(alignment, size) });
        unsafe { *out = pointer };
        if pointer.is_null() { libc::ENOMEM } else { 0 }
    }
    #[unsafe(no_mangle)]
    unsafe extern "C" fn free(pointer: *mut c_void) {
        taken(pointer);
        unsafe { __libc_free(pointer) };
    }
}

/// One lane by itself that forgets what it is given: the bytes are the lane's own.
struct Forgetful {
    units: Vec<Arc<Vec<f32>>>,
}

impl Collective for Forgetful {
    fn gather(&self, _: Step, _: Lane, unit: UnitId) -> Answer<Arc<Vec<f32>>> {
        let unit = self.units[unit.0 as usize].clone();
        Box::pin(async { Ok(unit) })
    }
    fn release(&self, _: Step, _: Lane, _: UnitId, _: Option<UnitId>) {}
    fn reduce(&self, _: Step, _: Lane, _: UnitId, gradient: Vec<f32>) -> Answer<()> {
        drop(gradient);
        Box::pin(async { Ok(()) })
    }
    fn sum(&self, _: Step, _: Lane, _: CallId, _: Range<u32>, values: Vec<f32>) -> Answer<Arc<Vec<f32>>> {
        Box::pin(async { Ok(Arc::new(values)) })
    }
    fn sinkhorn(&self, _: Step, _: Lane, _: CallId, rows: Vec<f32>) -> Answer<Arc<Vec<f32>>> {
        Box::pin(async { Ok(Arc::new(rows)) })
    }
}

const RECIPE: &str = r#"
run.steps = 10
cluster.ranks = 1
data.train = "images"
batch = { lanes = 1, images_per_lane = 8 }
swav.freeze_prototypes = 0
[[crops.group]]
count = 2
size = 96
scale = [0.2, 1.0]
[[crops.group]]
count = 2
size = 48
scale = [0.05, 0.2]
[model]
head = [256, 64]
prototypes = 300
"#;

/// Bytes predicted for a step of the lane.
fn predicted(job: &Swav) -> u64 {
    let settings = job.settings();
    let units = footprint::trunk(job.model().trunk(), &settings.crops.passes(settings.batch), settings.precision.activation_bytes());
    recompute::peak(&units, footprint::head(job.model(), settings.crops.crops() * settings.batch), job.plan())
}

/// Bytes that a step of the lane takes at its height, its crops among them: of the second step, because libraries keep what they make in the first.
fn measured(job: &Arc<Swav>, recipe: &Recipe) -> u64 {
    let units = job.units().iter().zip(0..).map(|(unit, id)| Arc::new(job.init(UnitId(id), 0..unit.len()))).collect();
    let hub = Arc::new(Forgetful { units });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mut taken = 0;
    for _ in 0..2 {
        let before = LIVE.load(Ordering::SeqCst);
        let mut crops = LaneCrops::zeros(&setup::crop_recipe(&recipe.crops), recipe.batch.images_per_lane as usize);
        for (i, value) in crops.groups.iter_mut().flat_map(|group| &mut group.pixels).enumerate() {
            *value = ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        }
        PEAK.store(LIVE.load(Ordering::SeqCst), Ordering::SeqCst);
        let peers = Peers::new(Step(0), Lane(0), hub.clone(), runtime.handle().clone());
        job.step(Step(0), Batch { samples: Vec::new(), data: Box::new(crops) }, peers).unwrap();
        taken = PEAK.load(Ordering::SeqCst) - before;
    }
    taken as u64
}

fn recipe(set: &[&str]) -> Recipe {
    let overrides: Vec<Override> = set.iter().map(|set| Override::parse(set).unwrap()).collect();
    Recipe::from_text("memory", RECIPE, &overrides).unwrap()
}

/// The predicted bytes, after they have been compared with the measured ones.
fn compare(set: &[&str]) -> u64 {
    let recipe = recipe(set);
    let job = Arc::new(setup::workload(&recipe, 10).unwrap());
    let (predicted, measured) = (predicted(&job), measured(&job, &recipe));
    let off = predicted as f64 / measured as f64 - 1.0;
    println!("{:+5.1} %: predicted {predicted} bytes, measured {measured}: {}", 100.0 * off, set.join(" "));
    assert!(off.abs() < 0.1, "{set:?}: predicted {predicted} bytes, measured {measured}");
    predicted
}

/// One test, because the count is the process's.
#[test]
fn the_predicted_peak_is_within_a_tenth_of_the_measured_one() {
    let devices: &[[&str; 2]] = match cfg!(feature = "tch") {
        true => &[
            ["device.name=flex", "device.precision=f32"],
            ["device.name=libtorch:cpu", "device.precision=f32"],
            ["device.name=libtorch:cpu", "device.precision=bf16"],
        ],
        false => &[["device.name=flex", "device.precision=f32"]],
    };
    for [device, precision] in devices {
        for trunk in ["model.trunk=regnet_y_400mf", "model.trunk=regnet_y_3_2gf"] {
            holds(&[trunk, device, precision]);
        }
    }
    if cfg!(feature = "tch") {
        // Processors have no convolutions in f16: libtorch's own are slow, and two images are enough.
        holds(&["model.trunk=regnet_y_400mf", "batch.images_per_lane=2", "device.name=libtorch:cpu", "device.precision=f16"]);
    }
}

/// Every way to plan the memory of a lane.
fn holds(what: &[&str]) {
    let with = |more: &[&str]| compare(&[what, more].concat());
    let most = with(&["memory.recompute=never"]);
    let least = with(&["memory.recompute=always"]);
    assert!(least < most / 2, "{least} {most}");
    with(&["memory.recompute=segments", "memory.segments=4"]);
    with(&["memory.recompute=never", "crops.padded=true"]);
    let units = setup::workload(&recipe(what), 10).unwrap();
    let gathered = placement::gathered_bytes(units.model().units(), setup::GATHERED_VALUES_MAX);
    let budget = (least + most) / 2;
    let auto = with(&["memory.recompute=auto", &format!("memory.budget={}B", budget + gathered)]);
    assert!(auto <= budget && auto > least, "{auto} of {budget}");
}
