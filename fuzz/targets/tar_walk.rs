//! A tar shard: its headers are walked and nothing is unpacked.

#![no_main]

use everstep::data::index::Index;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Shards are read from files: one in memory, of this process alone.
    let path = format!("/dev/shm/everstep-fuzz-{}.tar", std::process::id());
    if std::fs::write(&path, bytes).is_ok() {
        let _ = Index::open(&path, None);
    }
});
