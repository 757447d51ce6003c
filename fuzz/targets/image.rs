//! An image: JPEG, PNG or WebP, within limits.

#![no_main]

use everstep::data::decode::{DecodeLimits, decode};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let limits = DecodeLimits { pixels_max: 1 << 20, side_max: 4096 };
    if let Ok(rgb) = decode(bytes, &limits) {
        assert_eq!(rgb.pixels.len() as u64, 3 * u64::from(rgb.width) * u64::from(rgb.height));
        assert!(u64::from(rgb.width) * u64::from(rgb.height) <= limits.pixels_max);
    }
});
