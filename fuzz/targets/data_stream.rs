//! A stream of data frames.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = everstep_actors::untrusted::data_stream(bytes);
});
