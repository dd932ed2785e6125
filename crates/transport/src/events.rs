//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), taken as
//! liberally as the standard allows: any line ends, comments, no space after the colon, data in
//! several lines.

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEvent {
    /// `data`, `ping`, `error`; `message` where none was given.
    pub kind: String,
    /// Its data lines, with a line feed between them.
    pub data: String,
}

/// Takes bytes as they come and gives events.
#[derive(Debug)]
pub struct EventParser {
    /// Longest event, in bytes.
    longest: usize,
    line: Vec<u8>,
    kind: String,
    data: Option<String>,
    after_return: bool,
}

/// An event does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {longest} bytes")]
pub struct EventTooLong {
    longest: usize,
}

impl EventParser {
    /// Of a stream whose events are at most so long, in bytes.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        let (line, kind) = (Vec::new(), String::new());
        Self { longest, line, kind, data: None, after_return: false }
    }

    /// Takes a chunk; the events that it completes.
    ///
    /// # Errors
    /// An event is longer than it may be. The stream is of no more use.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Vec<ServerEvent>, EventTooLong> {
        let mut events = Vec::new();
        for &byte in chunk {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            if byte == b'\r' || (byte == b'\n' && !after_return) {
                events.extend(self.end_line());
            } else if byte != b'\n' {
                if self.line.len() + self.data.as_ref().map_or(0, String::len) >= self.longest {
                    return Err(EventTooLong { longest: self.longest });
                }
                self.line.push(byte);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<ServerEvent> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let (kind, data) = (std::mem::take(&mut self.kind), self.data.take());
            if kind.is_empty() && data.is_none() {
                return None;
            }
            let kind = if kind.is_empty() { "message".to_owned() } else { kind };
            return Some(ServerEvent { kind, data: data.unwrap_or_default() });
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
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &[u8], size: usize) -> Vec<(String, String)> {
        let mut parser = EventParser::new(1000);
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
        let too_long = EventTooLong { longest: 1000 };
        let mut parser = EventParser::new(1000);
        assert_eq!(parser.push(&[b'x'; 1000]), Ok(vec![]));
        assert_eq!(parser.push(b"x"), Err(too_long));
        let mut parser = EventParser::new(1000);
        let lines = "data: xxxxxxxxxxxxxxxxxxxxxxx\n".repeat(60);
        assert_eq!(parser.push(lines.as_bytes()), Err(too_long));
        assert_eq!(too_long.to_string(), "an event is longer than 1000 bytes");
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes: Vec<u8>, size in 1..9_usize) {
            let mut parser = EventParser::new(16);
            for chunk in bytes.chunks(size) {
                for event in parser.push(chunk).unwrap_or_default() {
                    prop_assert!(event.data.len() <= bytes.len() * 3);
                }
            }
        }
    }
}
