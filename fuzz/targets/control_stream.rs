//! A stream of control frames.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = everstep_actors::untrusted::control_stream(bytes);
});
