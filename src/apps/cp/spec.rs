//! What is copied and where to, as typed.
//!
//! | typed | means |
//! |---|---|
//! | `dev:path`, `owner/dev.agent:path` | a path in a workspace; relative ones begin where its sessions do |
//! | `dev:` | that directory itself |
//! | `path`, `./odd:path`, `/path` | a path here |
//!
//! What stands before the first colon is a workspace if it can be the name of one, in any of the
//! forms that every command takes; a path here that looks like that is written `./dev:path`. Paths
//! are bytes, and no shell ever reads them.

use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    cli::target::Target,
    error::{CommandError, Kind},
    ui::quoted,
};

/// A path, here or in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Here.
    Local(PathBuf),
    /// There.
    Remote {
        /// In which workspace, as typed.
        workspace: String,
        /// Not empty, and not necessarily UTF-8.
        path: Vec<u8>,
    },
}

impl Place {
    /// Reads what was typed.
    #[must_use]
    pub fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        let here = || Self::Local(PathBuf::from(text));
        let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return here() };
        let (name, path) = (&bytes[..colon], &bytes[colon + 1..]);
        match std::str::from_utf8(name) {
            Ok(name) if Target::parse(name).is_ok() => {
                let path = if path.is_empty() { b".".to_vec() } else { path.to_vec() };
                Self::Remote { workspace: name.to_owned(), path }
            }
            Ok(_) | Err(_) => here(),
        }
    }
}

impl fmt::Display for Place {
    /// A form that is read as the same place. Bytes that are not UTF-8 are lost in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote { workspace, path } => {
                write!(f, "{workspace}:{}", String::from_utf8_lossy(path))
            }
            Self::Local(path) => {
                let text = path.to_string_lossy();
                match Self::parse(path.as_os_str()) {
                    Self::Local(_) => f.write_str(&text),
                    Self::Remote { .. } => write!(f, "./{text}"),
                }
            }
        }
    }
}

/// What is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The workspace, as typed.
    pub workspace: String,
    /// From where to where.
    pub way: Way,
}

/// From where to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Into the workspace.
    Up {
        /// Paths here.
        from: Vec<PathBuf>,
        /// A path there.
        to: Vec<u8>,
    },
    /// Out of it.
    Down {
        /// Paths there.
        from: Vec<Vec<u8>>,
        /// A path here.
        to: PathBuf,
    },
}

impl Plan {
    /// Makes sense of sources and a destination.
    ///
    /// # Errors
    /// Of kind [`Kind::Usage`]: not exactly one side is in a workspace, and in one only.
    pub fn new(from: &[Place], to: &Place) -> Result<Self, CommandError> {
        let wrong = |why: &str| {
            Err(CommandError::msg(Kind::Usage, why.to_owned())
                .hint("write `dev:path` for a path in the workspace `dev`")
                .hint("write `./dev:path` for a path here that has a colon"))
        };
        match to {
            Place::Remote { workspace, path } => {
                let mut here = Vec::with_capacity(from.len());
                for place in from {
                    match place {
                        Place::Local(path) => here.push(path.clone()),
                        Place::Remote { .. } => {
                            return wrong("both sides of the copy are in a workspace");
                        }
                    }
                }
                let way = Way::Up { from: here, to: path.clone() };
                Ok(Self { workspace: workspace.clone(), way })
            }
            Place::Local(to) => {
                let mut there = Vec::with_capacity(from.len());
                let mut named: Option<&str> = None;
                for place in from {
                    match place {
                        Place::Local(_) => {
                            return wrong("neither side of the copy is in a workspace");
                        }
                        Place::Remote { workspace, .. }
                            if named.is_some_and(|named| named != workspace) =>
                        {
                            return wrong("the sources are in different workspaces");
                        }
                        Place::Remote { workspace, path } => {
                            named = Some(workspace);
                            there.push(path.clone());
                        }
                    }
                }
                let Some(workspace) = named else { return wrong("nothing is to be copied") };
                let way = Way::Down { from: there, to: to.clone() };
                Ok(Self { workspace: workspace.to_owned(), way })
            }
        }
    }
}

/// A path in its two halves: the directory it is in, and its name there, if it has one: `.`, `..`
/// and `/` have none.
pub(super) fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let whole = &path[..end];
    let (directory, name) = match whole.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (&path[..1], &whole[1..]),
        Some(slash) => (&whole[..slash], &whole[slash + 1..]),
        None => (&b"."[..], whole),
    };
    match name {
        b"" | b"." | b".." => (if path.is_empty() { b"." } else { path }, None),
        name => (directory, Some(name)),
    }
}

/// A path as messages have it.
pub(super) fn shown(path: &[u8]) -> String {
    quoted(&String::from_utf8_lossy(path))
}

/// The same of a path here.
pub(super) fn shown_path(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use proptest::prelude::*;

    use super::*;

    fn here(path: &str) -> Place {
        Place::Local(path.into())
    }

    fn there(workspace: &str, path: &str) -> Place {
        Place::Remote { workspace: workspace.to_owned(), path: path.into() }
    }

    #[test]
    fn what_stands_before_the_colon_decides() {
        for (typed, place) in [
            ("a", here("a")),
            ("dev:", there("dev", ".")),
            ("dev:a b", there("dev", "a b")),
            ("dev:/a:b\n", there("dev", "/a:b\n")),
            ("dev:-rf", there("dev", "-rf")),
            ("bob/dev.main:~/x", there("bob/dev.main", "~/x")),
            ("main.dev.bob:x", there("main.dev.bob", "x")),
            ("./dev:x", here("./dev:x")),
            ("/dev:x", here("/dev:x")),
            ("../x/dev:x", here("../x/dev:x")),
            (":x", here(":x")),
            ("a b:x", here("a b:x")),
            ("$(x):y", here("$(x):y")),
        ] {
            assert_eq!(Place::parse(OsStr::new(typed)), place, "{typed}");
        }
    }

    #[test]
    fn exactly_one_side_is_in_one_workspace() {
        let (a, b, x, y) = (here("a"), here("b"), there("dev", "x"), there("other", "y"));
        let up = Plan::new(&[a.clone(), b.clone()], &x).unwrap();
        assert_eq!(up.way, Way::Up { from: vec!["a".into(), "b".into()], to: b"x".to_vec() });
        let down = Plan::new(&[x.clone(), x.clone()], &a).unwrap();
        assert_eq!(down.workspace, "dev");
        for (from, to) in [
            (vec![a.clone()], &b),
            (vec![x.clone()], &x),
            (vec![a.clone(), x.clone()], &x),
            (vec![x.clone(), y], &a),
            (vec![], &a),
        ] {
            assert_eq!(Plan::new(&from, to).unwrap_err().kind, Kind::Usage, "{from:?}");
        }
    }

    #[test]
    fn paths_have_two_halves() {
        for (path, directory, name) in [
            ("a", ".", Some("a")),
            ("a/b", "a", Some("b")),
            ("a/b//", "a", Some("b")),
            ("/a", "/", Some("a")),
            ("//a", "/", Some("a")),
            ("/", "/", None),
            ("//", "//", None),
            (".", ".", None),
            ("", ".", None),
            ("a/..", "a/..", None),
            ("a/./", "a/./", None),
        ] {
            let found = split(path.as_bytes());
            assert_eq!(found, (directory.as_bytes(), name.map(str::as_bytes)), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same(text in "[a-z./:~ -]{0,12}|.{0,20}") {
            let place = Place::parse(OsStr::new(&text));
            let printed = place.to_string();
            let again = Place::parse(OsStr::new(&printed));
            prop_assert_eq!(again.to_string(), printed);
            match (place, again) {
                (Place::Local(one), Place::Local(other)) => {
                    // A path that looked like another has gained a dot.
                    prop_assert!(other == one || other == Path::new(".").join(&one));
                }
                (one, other) => prop_assert_eq!(one, other),
            }
        }

        #[test]
        fn bytes_are_kept_as_they_are(path in prop::collection::vec(any::<u8>(), 1..20)) {
            let mut typed = b"dev:".to_vec();
            typed.extend_from_slice(&path);
            let typed = std::ffi::OsString::from_vec(typed);
            let place = Place::Remote { workspace: "dev".to_owned(), path };
            prop_assert_eq!(Place::parse(&typed), place);
        }
    }
}
