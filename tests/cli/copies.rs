//! `cp`: what it refuses before it connects to anything.

use crate::support::{Home, assert_golden};

#[test]
fn what_cannot_be_copied_is_told_before_a_workspace_is_touched() {
    let home = Home::at("http://127.0.0.1:1");
    let there = home.path().join("there");
    std::fs::write(&there, "").unwrap();
    let there = there.to_str().unwrap();
    let seen = [
        &["cp"][..],
        &["cp", "a"],
        &["cp", "a", "b"],
        &["cp", "dev:a", "dev:b"],
        &["cp", "a", "dev:a", "dev:b"],
        &["cp", "dev:a", "other:b", "."],
        &["cp", "no\nwhere", "dev:"],
        &["cp", "src", "dev:"],
        &["cp", "dev:a", "nowhere/b"],
        &["cp", "dev:a", "dev:b", there],
        &["cp", "dev:a", "dev:b", "nowhere"],
    ];
    assert_golden("bad-copies", &seen.map(|arguments| home.run(arguments)));
}
