//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), taken as
//! liberally as the standard allows: any line ends, comments, no space after the colon, data in
//! several lines.

/// Longest event, in bytes: a claim has about 150.
const MAX_EVENT: usize = 64 * 1024;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// `data`, `ping`, `error`; `message` where none was given.
    pub(crate) kind: String,
    pub(crate) data: String,
}

/// Takes bytes as they come and gives events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    kind: String,
    data: Option<String>,
    after_return: bool,
}

/// An event does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT} bytes")]
pub(crate) struct TooLong;

impl Parser {
    /// Takes a chunk; the events that it completes.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in chunk {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            if byte == b'\r' || (byte == b'\n' && !after_return) {
                events.extend(self.end_line());
            } else if byte != b'\n' {
                if self.line.len() + self.data.as_ref().map_or(0, String::len) >= MAX_EVENT {
                    return Err(TooLong);
                }
                self.line.push(byte);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let (kind, data) = (std::mem::take(&mut self.kind), self.data.take());
            if kind.is_empty() && data.is_none() {
                return None;
            }
            let kind = if kind.is_empty() { "message".to_owned() } else { kind };
            return Some(Event { kind, data: data.unwrap_or_default() });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        if field == "event" {
            value.clone_into(&mut self.kind);
        } else if field == "data" {
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
        // Anything else is a comment, or a field that nobody here needs.
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &[u8], size: usize) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        let events = text.chunks(size.max(1)).flat_map(|chunk| parser.push(chunk).unwrap());
        events.map(|event| (event.kind, event.data)).collect()
    }

    #[test]
    fn events_are_read_however_they_are_spelled_and_cut() {
        let text = b"event: ping\n\n: comment\nevent: data\ndata: {\"a\":1}\n\n\
                     event:data\r\ndata:1\r\ndata: 2\r\n\r\nid: 7\rdata\r\rdata: x\n\n";
        for size in [1, 2, 3, 7, 1000] {
            let expected = [
                ("ping", ""),
                ("data", "{\"a\":1}"),
                ("data", "1\n2"),
                ("message", ""),
                ("message", "x"),
            ];
            let found = parse(text, size);
            let found: Vec<_> = found.iter().map(|(k, d)| (k.as_str(), d.as_str())).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_that_does_not_end_is_an_error() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_EVENT]), Ok(vec![]));
        assert_eq!(parser.push(b"x"), Err(TooLong));
        let mut parser = Parser::default();
        let lines = "data: xxxxxxxxxxxxxxxxxxxxxxx\n".repeat(MAX_EVENT / 16);
        assert_eq!(parser.push(lines.as_bytes()), Err(TooLong));
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes: Vec<u8>, size in 1..9_usize) {
            parse(&bytes, size);
        }
    }
}
