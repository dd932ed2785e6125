//! How the released program is linked on Linux.
//!
//! * **At a fixed address.** A position-independent executable relocates itself whenever it starts:
//!   here some 28,000 pointers (vtables and tables of the libraries) on a hundred pages, which took a
//!   third of the time of `coderctl --version`. What is given up is the randomised address of the
//!   program's own code; libraries, heap and stack keep theirs, and `unsafe_code` is forbidden in all
//!   crates of this workspace.
//! * **Equal functions once.** Many instances of generic code are the same instructions. LLD, which
//!   rustc uses on x86-64 unless told otherwise, folds them; it saves a twentieth of the program.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let linux = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if !linux || !is("PROFILE", "release") {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-no-pie");
    // Another linker may not know how, and a choice of linker is made in one of these.
    let chosen = env::var_os("RUSTC_LINKER").is_some()
        || env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("link"));
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") && !chosen {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
