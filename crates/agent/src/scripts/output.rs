//! Where the output of a script goes: line by line to the server, byte by byte to its file.

use std::sync::Arc;

use tokio::{
    fs::File,
    io::{AsyncWriteExt as _, BufWriter},
};
use uuid::Uuid;

use super::process::{Sink, Stream};
use crate::logs::{Level, Logs, MAX_LINE};

/// Takes the output of one script.
pub(super) struct Output {
    logs: Arc<Logs>,
    source: Uuid,
    out: Lines,
    err: Lines,
    file: Option<BufWriter<File>>,
}

impl Output {
    pub(super) fn new(logs: Arc<Logs>, source: Uuid, file: Option<File>) -> Self {
        let file = file.map(BufWriter::new);
        Self { logs, source, out: Lines::default(), err: Lines::default(), file }
    }

    /// Says something about the script.
    pub(super) async fn note(&mut self, level: Level, text: &str) {
        self.logs.push(self.source, level, text.to_owned());
        self.record(text.as_bytes()).await;
        self.record(b"\n").await;
    }

    /// There will be no more.
    pub(super) async fn finish(mut self) {
        let Self { logs, source, out, err, .. } = &mut self;
        for (lines, level) in [(out, Level::Info), (err, Level::Error)] {
            if let Some(line) = lines.finish() {
                logs.push(*source, level, line);
            }
        }
        self.logs.flush(self.source);
        if let Some(mut file) = self.file.take()
            && let Err(error) = file.shutdown().await
        {
            tracing::debug!(%error, "a script's log file is not complete");
        }
    }

    async fn record(&mut self, data: &[u8]) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(data).await
        {
            // A full disk is no reason to end the script; the server has the output.
            tracing::warn!(%error, "a script's log file cannot be written");
            self.file = None;
        }
    }
}

impl Sink for Output {
    async fn write(&mut self, stream: Stream, data: &[u8]) {
        let (lines, level) = match stream {
            Stream::Out => (&mut self.out, Level::Info),
            Stream::Err => (&mut self.err, Level::Error),
        };
        for line in lines.push(data) {
            self.logs.push(self.source, level, line);
        }
        self.record(data).await;
    }
}

/// Cuts a stream into lines, and lines that are too long into pieces.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn push(&mut self, data: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                Some(_) | None => (piece, false),
            };
            self.begun.extend_from_slice(text);
            while self.begun.len() > MAX_LINE {
                let rest = self.begun.split_off(MAX_LINE);
                lines.push(text_of(&std::mem::replace(&mut self.begun, rest)));
            }
            if ended {
                let line = std::mem::take(&mut self.begun);
                lines.push(text_of(line.strip_suffix(b"\r").unwrap_or(&line)));
            }
        }
        lines
    }

    fn finish(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.begun);
        (!line.is_empty()).then(|| text_of(&line))
    }
}

fn text_of(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let text = b"one\n\ntwo\r\nthr\xffee\nrest";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut all: Vec<String> =
                text.chunks(size).flat_map(|chunk| lines.push(chunk)).collect();
            all.extend(lines.finish());
            assert_eq!(all, ["one", "", "two", "thr\u{fffd}ee", "rest"], "in pieces of {size}");
            assert_eq!(lines.finish(), None);
        }
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut lines = Lines::default();
        let pieces = lines.push(&vec![b'x'; MAX_LINE * 2 + 5]);
        assert_eq!(pieces.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, MAX_LINE]);
        assert_eq!(lines.push(b"\n"), ["xxxxx"]);
    }
}
