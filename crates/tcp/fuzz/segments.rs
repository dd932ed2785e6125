//! Any bytes, as a story of segments, time and an application (`tests/fuzz/drive.rs`).

#![no_main]

#[path = "../tests/fuzz/drive.rs"]
mod drive;

libfuzzer_sys::fuzz_target!(|data: &[u8]| drive::drive(data));
