//! The committed message types are what the `.proto` files say.
//!
//! `CODERCTL_REGENERATE=1 cargo test -p coderctl-drpc --test generated` writes them anew; without
//! the variable the test fails when they are stale. Everything is compiled by crates, so that
//! neither a build nor this test needs a `protoc`.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which the exception for tests leaves out"
)]

use std::path::{Path, PathBuf};

#[test]
fn committed_types_match_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    std::fs::create_dir_all(&out).unwrap();
    generate(root, &out);
    let stale: Vec<PathBuf> = [
        ("coder.tailnet.v2.rs", "src/proto/tailnet.rs"),
        ("coder.agent.v2.rs", "src/proto/agent.rs"),
    ]
    .into_iter()
    .filter_map(|(made, committed)| {
        let made = format!("{HEADER}{}", std::fs::read_to_string(out.join(made)).unwrap());
        let committed = root.join(committed);
        if std::env::var_os("CODERCTL_REGENERATE").is_some() {
            std::fs::write(&committed, &made).unwrap();
        }
        (std::fs::read_to_string(&committed).unwrap_or_default() != made).then_some(committed)
    })
    .collect();
    assert!(stale.is_empty(), "stale: {stale:?}; run with CODERCTL_REGENERATE=1 to renew");
}

const HEADER: &str =
    "// Made from ../../proto by tests/generated.rs; change the .proto files instead.\n\n";

fn generate(root: &Path, out: &Path) {
    let mut config = prost_build::Config::new();
    // Ordered maps: two encodings of one value are equal.
    config.out_dir(out).btree_map(["."]).skip_debug(SECRETS);
    let compile = |file| protox::compile([file], [root.join("proto")]).unwrap();
    config.compile_fds(compile("tailnet.proto")).unwrap();
    config.extern_path(".coder.tailnet.v2", "crate::proto::tailnet");
    config.compile_fds(compile("agent.proto")).unwrap();
}

/// Messages with a secret in them: `src/proto/redacted.rs` says how they print.
const SECRETS: [&str; 4] = [
    ".coder.tailnet.v2.RefreshResumeTokenResponse",
    ".coder.agent.v2.WorkspaceSecret",
    ".coder.agent.v2.SubAgent",
    ".coder.agent.v2.Manifest",
];
