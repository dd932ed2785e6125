//! The fuzz targets on their corpus and on mutations of it, so that every run of the tests is a
//! short, repeatable run of the fuzzers.
//!
//! `CODERCTL_BLESS=1` writes the well-formed part of the corpus; what a fuzzer finds is added to it
//! by hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, dead_code, reason = "a crate of its own elsewhere")]
mod targets;

#[path = "../sim/link.rs"]
#[allow(dead_code, reason = "shared; each program uses its own part")]
mod link;

mod seeds;

use std::{fs, path::PathBuf};

use link::Rng;
use targets::TARGETS;

/// Mutations of each file.
const MUTATIONS: u64 = 200;

/// Longest input.
const LONGEST: usize = 4096;

fn directory(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

#[test]
fn the_corpus_and_what_is_like_it_are_survived() {
    for (name, target) in TARGETS {
        let files = fs::read_dir(directory(name)).unwrap();
        let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        let corpus: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        for input in &corpus {
            target(input);
        }
        let mut rng = Rng(1);
        for _ in 0..MUTATIONS * corpus.len() as u64 {
            target(&mutated(&corpus, &mut rng));
        }
        target(&[]);
        target(&[0xff; LONGEST]);
    }
}

#[test]
fn the_well_formed_part_of_the_corpus_is_what_we_make() {
    let bless = std::env::var_os("CODERCTL_BLESS").is_some();
    for (target, name, bytes) in seeds::all() {
        let file = directory(target).join(name);
        if bless {
            fs::create_dir_all(directory(target)).unwrap();
            fs::write(&file, &bytes).unwrap();
        }
        let committed = fs::read(&file).unwrap_or_default();
        assert!(committed == bytes, "{} is out of date: CODERCTL_BLESS=1", file.display());
    }
}

/// One of the corpus with a few changes.
fn mutated(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let any = |rng: &mut Rng| &corpus[rng.below(corpus.len() as u64) as usize];
    let mut bytes = any(rng).clone();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.extend((0..rng.below(64)).map(|_| rng.0 as u8)),
            2 => bytes.insert(at, rng.next() as u8),
            // Two well-formed ones after each other, or one within the other.
            3 => drop(bytes.splice(at..at, any(rng).iter().copied())),
            4 => drop(bytes.splice(..at, [])),
            change => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = match change {
                        5 => *byte ^ 1 << rng.below(8),
                        _ => [0, 1, 0x7f, 0x80, 0xff][rng.below(5) as usize],
                    };
                }
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}
