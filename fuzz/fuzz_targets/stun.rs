#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coderctl_fuzz::stun(data));
