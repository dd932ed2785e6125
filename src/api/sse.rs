//! Server-sent events, as much of them as a control plane uses
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

/// Longest event, in bytes: a workspace with hundreds of agents stays far below.
const MAX_EVENT: usize = 16 << 20;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type: `data`, `ping`, `error`; `message` where none was given.
    pub(super) kind: String,
    /// Its data lines.
    pub(super) data: String,
}

/// Takes bytes as they come and gives events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    kind: String,
    data: String,
    after_return: bool,
}

/// An event does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT} bytes")]
pub(super) struct TooLong;

impl Parser {
    /// Takes a chunk; the events that it completes.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for byte in chunk {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => {
                    self.after_return = false;
                    if self.line.len() + self.data.len() >= MAX_EVENT {
                        return Err(TooLong);
                    }
                    self.line.push(*byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            let data = std::mem::take(&mut self.data);
            if kind.is_empty() && data.is_empty() {
                return None;
            }
            let kind = if kind.is_empty() { "message".to_owned() } else { kind };
            return Some(Event { kind, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // A comment, or a field that nobody here needs.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &[u8], size: usize) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        let chunks = text.chunks(size.max(1));
        let events = chunks.flat_map(|chunk| parser.push(chunk).unwrap());
        events.map(|event| (event.kind, event.data)).collect()
    }

    #[test]
    fn events_are_read_however_they_are_spelled_and_cut() {
        let text = b"event: ping\n\n: comment\nevent: data\ndata: {\"a\":1}\n\n\
                     event:data\r\ndata:1\r\ndata: 2\r\n\r\ndata: x\n\n";
        for size in [1, 2, 3, 7, 1000] {
            let expected =
                [("ping", ""), ("data", "{\"a\":1}"), ("data", "1\n2"), ("message", "x")];
            let found = parse(text, size);
            let found: Vec<_> = found.iter().map(|(k, d)| (k.as_str(), d.as_str())).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_that_does_not_end_is_an_error() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; 1 << 20];
        assert!((0..20).any(|_| parser.push(&chunk).is_err()));
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes: Vec<u8>, size in 1..9_usize) {
            parse(&bytes, size);
        }
    }
}
