//! The one line of ours in somebody's OpenSSH configuration. Pure: bytes in, bytes out.
//!
//! It stands at the very top, because below a `Host` it would hold for that one only, and because
//! of two values OpenSSH takes the first. Every other byte stays as it is, the sections of other
//! programs too.

/// The line that includes this file.
pub(super) fn line(file: &str) -> String {
    format!("Include \"{file}\"\n")
}

/// The configuration with our line once, at its top.
pub(super) fn with(config: &[u8], line: &str) -> Vec<u8> {
    [line.as_bytes(), &without(config, line)].concat()
}

/// The configuration without our line, wherever it stands.
pub(super) fn without(config: &[u8], line: &str) -> Vec<u8> {
    let ours = line.trim_end().as_bytes();
    let kept = config.split_inclusive(|byte| *byte == b'\n');
    kept.filter(|kept| kept.trim_ascii() != ours).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UPSTREAM: &str = "# ------------START-CODER-----------\nHost coder.*\n\
                            # ------------END-CODER------------\n";

    #[test]
    fn it_stands_at_the_top_and_once() {
        let line = line("/home/bob/.ssh/coderctl/config");
        assert_eq!(line, "Include \"/home/bob/.ssh/coderctl/config\"\n");
        for (before, after) in [
            ("", ""),
            ("Host a\n  Port 1\n", "Host a\n  Port 1\n"),
            ("Host a\r\n  Port 1", "Host a\r\n  Port 1"),
            (UPSTREAM, UPSTREAM),
            (&format!("Host a\n  {}Port 1", line), "Host a\nPort 1"),
            (&format!("{line}{line}\n"), "\n"),
        ] {
            let with = with(before.as_bytes(), &line);
            assert_eq!(String::from_utf8(with).unwrap(), format!("{line}{after}"), "{before:?}");
        }
    }

    proptest! {
        #[test]
        fn what_others_wrote_is_theirs(config in prop::collection::vec(any::<u8>(), 0..200)) {
            let line = line("/x");
            let once = with(&config, &line);
            prop_assert_eq!(&once[line.len()..], &config[..]);
            prop_assert_eq!(with(&once, &line), once.clone());
            prop_assert_eq!(without(&once, &line), config);
        }

        #[test]
        fn lines_are_kept(lines in prop::collection::vec("[ -~]{0,20}(\r\n|\n)", 0..10)) {
            let line = line("/x");
            let config = lines.concat().into_bytes();
            let mut mixed = config.clone();
            mixed.extend_from_slice(line.as_bytes());
            prop_assert_eq!(without(&mixed, &line), config);
        }
    }
}
