//! The stories that fuzzing found worth telling, told again: `crates/tcp/fuzz/corpus`.
//!
//! `cargo +nightly fuzz run segments` in `crates/tcp` looks for more.

#![allow(clippy::unwrap_used, reason = "tests")]

mod drive;

#[test]
fn every_story_of_the_corpus_comes_to_its_end() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/segments");
    let mut stories: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    stories.sort();
    assert!(stories.len() >= 10, "{stories:?}");
    for path in stories {
        let story = std::fs::read(path).unwrap();
        // So do all that break off earlier.
        for length in 0..=story.len() {
            drive::drive(&story[..length]);
        }
    }
}
