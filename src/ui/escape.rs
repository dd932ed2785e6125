//! Text of strangers, made harmless.

use std::{borrow::Cow, fmt::Write};

/// Longest quotation of something that was typed or sent, in characters: enough for every legal
/// name (32 each for owner, workspace and agent) and still one line.
const QUOTED: usize = 120;

/// Makes control characters, escape sequences, direction overrides and invisible characters
/// visible (`\x1b`, `\u{202e}`). Tabs stay.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unsafe(character) { push_visible(&mut out, character) } else { out.push(character) }
    }
    Cow::Owned(out)
}

/// A name or a value as a message quotes it: in backquotes, on one line, shortened.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    for character in text.chars().take(QUOTED) {
        if is_unsafe(character) || character == '\t' {
            push_visible(&mut out, character);
        } else {
            out.push(character);
        }
    }
    if text.chars().nth(QUOTED).is_some() {
        let _ = write!(out, "…` ({} bytes)", text.len());
    } else {
        out.push('`');
    }
    out
}

/// Makes what [`escape`] makes visible visible in a JSON text, too, as JSON writes it: the text
/// means the same. (Control characters below 0x80 are never raw in JSON strings.)
#[must_use]
pub fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() || !is_unsafe(character) {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// One line of a program's output as text: without its colours, and harmless.
#[must_use]
pub fn plain(line: &str) -> String {
    escape(&without_colours(line.trim_end())).into_owned()
}

/// Drops colour sequences (`ESC [ digits ; … m`), which build tools write on purpose and which
/// do no harm, but would hide the text if they were made visible.
pub(super) fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        out.push_str(before);
        let digits = after.bytes().take_while(|b| b.is_ascii_digit() || *b == b';').count();
        if after.as_bytes().get(digits) == Some(&b'm') {
            rest = &after[digits + 1..];
        } else {
            out.push_str("\x1b[");
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

fn push_visible(out: &mut String, character: char) {
    let code = u32::from(character);
    let _ = match character {
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        _ if code < 0x80 => write!(out, "\\x{code:02x}"),
        _ => write!(out, "\\u{{{code:x}}}"),
    };
}

fn is_unsafe(character: char) -> bool {
    match character {
        '\t' => false,
        // Marks and overrides of writing direction, zero-width characters, line and paragraph
        // separators, tags: what can make a text look like another (Unicode TR 36).
        '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => true,
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_untouched() {
        assert!(matches!(escape("Größe: 3 µs → 工作区\tok"), Cow::Borrowed(_)));
    }

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(escape("a\x1b]0;x\x07b\u{9b}2J\x7f"), "a\\x1b]0;x\\x07b\\u{9b}2J\\x7f");
    }

    #[test]
    fn directions_and_invisible_characters_become_visible() {
        assert_eq!(escape("a\u{202e}b\u{200b}c\u{2066}"), "a\\u{202e}b\\u{200b}c\\u{2066}");
    }

    #[test]
    fn quotations_are_one_short_line() {
        assert_eq!(quoted("a\nb\tc"), "`a\\nb\\tc`");
        let long = quoted(&"x".repeat(100_000));
        assert!(long.ends_with("x…` (100000 bytes)") && long.chars().count() < 150, "{long}");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let name = "ö\u{202e}\u{9b}2J\u{e0041}\n";
        let json = serde_json::to_string(name).unwrap();
        let escaped = escape_json(&json);
        assert_eq!(escaped, "\"ö\\u202e\\u009b2J\\udb40\\udc41\\n\"");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), name);
    }

    #[test]
    fn only_colours_are_dropped() {
        assert_eq!(without_colours("\x1b[1;31mred\x1b[m \x1b[2J\x1b["), "red \x1b[2J\x1b[");
    }
}
