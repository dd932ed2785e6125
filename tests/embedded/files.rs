//! `cp`, both ways.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Server, noise, run};

/// What is in a directory: names, and what files hold, links lead to and permissions are.
fn tree(at: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![at.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_dir() {
                left.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_vec()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(path.strip_prefix(at).unwrap().to_owned(), (metadata.mode(), content));
        }
    }
    found
}

/// A tree with all that is odd about files.
fn odd(at: &Path) {
    let deep = at.join("sub directory/a/b");
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(at.join("empty")).unwrap();
    for (name, size) in [
        (&b"plain"[..], 5),
        (b"-rf", 0),
        (b"a\nb", 1),
        (b"'quoted\" $(touch pwned) *", 70_000),
        (b"\xff\xfe", 3),
        (b"large", 3 << 20),
    ] {
        fs::write(at.join(OsStr::from_bytes(name)), noise(size as u64, size)).unwrap();
    }
    for number in 0..200 {
        fs::write(deep.join(number.to_string()), number.to_string()).unwrap();
    }
    let script = at.join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../nowhere", at.join("link")).unwrap();
    symlink("plain", deep.join("link")).unwrap();
}

#[test]
fn a_tree_goes_there_and_comes_back() {
    let server = Server::with_dev();
    let home = TempDir::new().unwrap();
    let (from, back) = (home.path().join("from"), home.path().join("back"));
    odd(&from);
    let there = server.file("dev", "work");
    let seen = server.run(&["cp", "-r", from.to_str().unwrap(), "dev:work", "-o", "json"]).ends(0);
    let told: Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!((&told["files"], &told["links"]), (&207.into(), &2.into()), "{told}");
    assert_eq!(tree(&there), tree(&from));
    server.run(&["cp", "-r", "dev:work/", back.to_str().unwrap()]).ends(0).says("Copied 207 files");
    assert_eq!(tree(&back), tree(&from));
    // Into what is there, once more: nothing is replaced, and the rest goes on.
    fs::remove_file(there.join("plain")).unwrap();
    fs::write(there.join("script"), "mine").unwrap();
    let contents = format!("{}/.", from.display());
    let seen = server.run(&["cp", "-r", &contents, "dev:work"]).ends(1);
    seen.says("`work/script` is there already; --force replaces it")
        .says("there are more of these");
    assert_eq!(fs::read(there.join("plain")).unwrap(), noise(5, 5));
    assert_eq!(fs::read(there.join("script")).unwrap(), b"mine");
    server.run(&["cp", "-rf", &contents, "dev:work"]).ends(0);
    assert_eq!(tree(&there), tree(&from));
}

#[test]
fn destinations_are_those_of_cp() {
    let server = Server::with_dev();
    let home = TempDir::new().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("one"), "1").unwrap();
    fs::write(path("two"), "2").unwrap();
    let (one, two) = (path("one"), path("two"));
    let cp = |arguments: &[&str]| server.run(&[&["cp"], arguments].concat());
    let there = |name: &str| fs::read_to_string(server.file("dev", name)).ok();
    cp(&[&one, &two, "dev:"]).ends(0);
    assert_eq!((there("one"), there("two")), (Some("1".into()), Some("2".into())));
    cp(&[&one, "dev:three"]).ends(0);
    assert_eq!(there("three").as_deref(), Some("1"));
    cp(&[&one, "dev:three"]).ends(1).says("cannot copy `").says("--force replaces it");
    cp(&["-f", &two, "dev:three"]).ends(0);
    assert_eq!(there("three").as_deref(), Some("2"));
    cp(&[&one, "dev:new/"]).ends(1).says("there is no such directory");
    cp(&[&one, "dev:no/where"]).ends(1).says("there is no such directory there");
    cp(&[&one, &two, "dev:three"]).ends(1).says("it is no directory, and there are several");
    cp(&[home.path().to_str().unwrap(), "dev:"]).ends(210).says("-r copies it");
    cp(&["dev:.", &path("out")]).ends(1).says("-r copies it");
    cp(&["dev:nothing", &path("out")]).ends(1).says("`nothing`: there is no such file");
    cp(&[&path("nothing"), "dev:"]).ends(210).says("there is no such file or directory");
    cp(&["dev:one", &path("no/out")]).ends(210).says("the directory that it would be in");
    cp(&["dev:~/one", "dev:two", home.path().to_str().unwrap()]).ends(1);
    cp(&["-f", "dev:~/one", "dev:two", home.path().to_str().unwrap()]).ends(0);
    // Bytes that are no text, on the command line, too.
    let odd = OsString::from_vec([b"dev:", &b"-\xff\n'\"$(x)"[..]].concat());
    run(server.command(&["cp", &one]).arg(&odd)).ends(0);
    run(server.command(&["cp"]).arg(&odd).arg(path("out"))).ends(0);
    assert_eq!(fs::read(path("out")).unwrap(), b"1");
    let leftovers = fs::read_dir(server.file("dev", "")).unwrap();
    let names: Vec<_> = leftovers.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains(".part")), "{names:?}");
}

#[test]
fn permissions_and_times_are_kept_where_that_is_asked_for() {
    let server = Server::with_dev();
    let home = TempDir::new().unwrap();
    let from = home.path().join("from");
    fs::create_dir_all(from.join("d")).unwrap();
    fs::write(from.join("d/f"), "x").unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for (path, mode) in [("d/f", 0o640), ("d", 0o750)] {
        let file = fs::File::open(from.join(path)).unwrap();
        file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        file.set_modified(old).unwrap();
    }
    server.run(&["cp", "-rp", from.to_str().unwrap(), "dev:kept"]).ends(0);
    let back = home.path().join("back");
    server.run(&["cp", "-rp", "dev:kept", back.to_str().unwrap()]).ends(0);
    for root in [server.file("dev", "kept"), back] {
        for (path, mode) in [("d/f", 0o640), ("d", 0o750)] {
            let found = fs::metadata(root.join(path)).unwrap();
            assert_eq!((found.mtime(), found.mode() & 0o777), (1_000_000_000, mode), "{path}");
        }
    }
}

#[test]
fn a_copy_that_is_interrupted_leaves_nothing_and_one_to_be_resumed_its_part() {
    let server = Server::with_dev();
    let home = TempDir::new().unwrap();
    let large = home.path().join("large");
    let content = noise(7, 96 << 20);
    fs::write(&large, &content).unwrap();
    let directory = server.file("dev", "");
    let parts = || {
        let names = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".part")).collect::<Vec<_>>()
    };
    for resume in [false, true] {
        let more: &[&str] = if resume { &["--resume"] } else { &[] };
        let command = [&["cp", large.to_str().unwrap(), "dev:large"], more].concat();
        let copy = server.background(&command);
        crate::support::until("a part", || parts().pop());
        copy.signal(Signal::INT);
        let (code, said) = copy.finish();
        assert_eq!(code, Some(130), "{said}");
        assert!(said.contains("interrupted before it was done"), "{said}");
        assert!(!directory.join("large").exists());
        assert_eq!(parts().len(), usize::from(resume));
    }
    server.run(&["cp", "--resume", large.to_str().unwrap(), "dev:large"]).ends(0);
    assert!(fs::read(directory.join("large")).unwrap() == content);
    assert_eq!(parts().len(), 0);
    // A workspace that is stopped meanwhile.
    let copy = server.background(&["cp", "dev:large", home.path().join("back").to_str().unwrap()]);
    crate::support::until("a part", || {
        let mut names = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.find(|name| name.to_string_lossy().ends_with(".part"))
    });
    server.api().build("dev", "stop");
    let (code, said) = copy.finish();
    assert!(code == Some(203) || code == Some(0), "{code:?} {said}");
    assert_eq!(home.path().join("back").exists(), code == Some(0));
}
