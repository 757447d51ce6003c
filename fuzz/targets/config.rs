//! A recipe: TOML and all its checks.

#![no_main]

use everstep::config::Recipe;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Recipe::from_text("fuzz.toml", text, &[]);
});
