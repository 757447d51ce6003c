//! One control message: what can be read can be written and read again.

#![no_main]

use everstep_actors::untrusted;
use everstep_actors::wire::frame::Frame;
use everstep_actors::wire::message::Control;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert_eq!(untrusted::control(bytes), Control::decode(bytes).is_ok(), "it was read and cannot be written");
});
