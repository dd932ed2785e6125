//! Completions and man pages are those of the command line.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::{Home, assert_file};

#[test]
fn completions_and_manuals_are_not_stale() {
    let home = Home::new();
    let made = home.path().join("made");
    let output = home.output(&["generate", made.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    for directory in ["completions", "man"] {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let names = files(&made.join(directory));
        if std::env::var_os("CODERCTL_BLESS").is_some() {
            for stale in files(&committed).difference(&names) {
                fs::remove_file(committed.join(stale)).unwrap();
            }
        }
        for name in &names {
            let text = fs::read_to_string(made.join(directory).join(name)).unwrap();
            assert_file(&Path::new(directory).join(name), &text);
        }
        assert_eq!(files(&committed), names, "{directory}/ holds files of removed commands");
    }
}

fn files(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
