//! Escapes at the beginning of a line, as OpenSSH has them (ssh(1), ESCAPE CHARACTERS).

/// What is typed, with the escapes taken out of it.
#[derive(Debug)]
pub(super) struct Escapes {
    key: u8,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The beginning of a line.
    Beginning,
    /// Behind the escape character there.
    Escape,
    Middle,
}

/// What was asked for by an escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing.
    Nothing,
    /// To be told the escapes.
    Help,
    /// To end the connection; what follows is dropped.
    Disconnect,
}

impl Escapes {
    /// Escapes that begin with this character.
    pub(super) fn new(key: u8) -> Self {
        Self { key, at: At::Beginning }
    }

    /// Appends to `out` what of the input is meant for the other side.
    pub(super) fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> Asked {
        let mut asked = Asked::Nothing;
        for &byte in input {
            let begins = matches!(byte, b'\r' | b'\n');
            self.at = match (self.at, byte) {
                (At::Beginning, byte) if byte == self.key => At::Escape,
                (At::Escape, b'.') => return Asked::Disconnect,
                (At::Escape, b'?') => {
                    asked = Asked::Help;
                    At::Beginning
                }
                (At::Escape, byte) if byte == self.key => {
                    out.push(byte);
                    At::Middle
                }
                (At::Escape, byte) => {
                    out.extend([self.key, byte]);
                    if begins { At::Beginning } else { At::Middle }
                }
                (At::Beginning | At::Middle, byte) => {
                    out.push(byte);
                    if begins { At::Beginning } else { At::Middle }
                }
            };
        }
        asked
    }

    /// The escapes, for people.
    pub(super) fn help(&self) -> String {
        let key = char::from(self.key);
        format!(
            "Supported escape sequences, recognized at the beginning of a line:\n\
             {key}.   end the connection\n\
             {key}?   this message\n\
             {key}{key}   send the escape character"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_and_what_comes_of_it() {
        for (typed, sent, asked) in [
            ("ls\r", "ls\r", Asked::Nothing),
            ("~.", "", Asked::Disconnect),
            ("~.left", "", Asked::Disconnect),
            ("ls\r~.", "ls\r", Asked::Disconnect),
            ("ls\n~.", "ls\n", Asked::Disconnect),
            ("ls ~.", "ls ~.", Asked::Nothing),
            ("~~.", "~.", Asked::Nothing),
            ("~~\r~.", "~\r", Asked::Disconnect),
            ("~/bin\r", "~/bin\r", Asked::Nothing),
            ("~\r~.", "~\r", Asked::Disconnect),
            ("~?x~.\r", "x~.\r", Asked::Help),
            ("~?~.", "", Asked::Disconnect),
            ("\r~", "\r", Asked::Nothing),
        ] {
            let (mut whole, mut out) = (Escapes::new(b'~'), Vec::new());
            assert_eq!(whole.filter(typed.as_bytes(), &mut out), asked, "{typed:?}");
            assert_eq!(out, sent.as_bytes(), "{typed:?}");
            // Keys come one by one.
            let (mut single, mut out) = (Escapes::new(b'~'), Vec::new());
            let mut said = Vec::new();
            for byte in typed.bytes() {
                match single.filter(&[byte], &mut out) {
                    Asked::Nothing => {}
                    word @ (Asked::Help | Asked::Disconnect) => said.push(word),
                }
                if said.last() == Some(&Asked::Disconnect) {
                    break;
                }
            }
            assert_eq!(out, sent.as_bytes(), "{typed:?}");
            assert_eq!(said.last().copied().unwrap_or(Asked::Nothing), asked, "{typed:?}");
        }
    }

    #[test]
    fn any_character_may_be_the_one() {
        let mut out = Vec::new();
        assert_eq!(Escapes::new(b'%').filter(b"~.\r%.", &mut out), Asked::Disconnect);
        assert_eq!(out, b"~.\r");
        assert!(Escapes::new(b'%').help().contains("%."));
    }
}
