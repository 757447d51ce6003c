//! The JSON that travels in control messages.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = everstep_actors::untrusted::words(bytes);
});
