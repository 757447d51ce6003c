//! A checkpoint's manifest, digests put right.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = everstep_actors::untrusted::manifest(bytes);
});
