//! A packed view, which may claim to unpack without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = everstep_actors::untrusted::view(bytes);
});
