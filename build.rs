//! How the released program is linked on Linux.
//!
//! * **At a fixed address.** A position-independent executable relocates itself whenever it starts:
//!   here some 28,000 pointers (vtables and tables of the libraries) on a hundred pages, which took a
//!   third of the time of `coderctl --version`. What is given up is the randomised address of the
//!   program's own code; libraries, heap and stack keep theirs, and `unsafe_code` is forbidden in all
//!   crates of this workspace.
//! * **Equal functions once.** Many instances of generic code are the same instructions. LLD, which
//!   rustc uses on this target, and mold fold them; it saves a twentieth of the program.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    if is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
    if is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
