//! A chaos scenario: TOML and all its checks.

#![no_main]

use everstep_chaos::scenario::Scenario;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Scenario::parse(text);
});
