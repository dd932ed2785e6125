//! The speed test, version 2 (tailscale: net/speedtest).
//!
//! ```text
//!   client  {"version":2,"time":5000000000,"direction":0}\n
//!   agent   {}\n                                or {"error":"…"}\n
//!   then whoever sends writes blocks of 2 MiB until the time is over, and closes
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    time::{Instant, timeout},
};

/// The version that is spoken.
const VERSION: u32 = 2;

/// Bytes of a block (`blockSize`). Only zeroes are written here: the tunnel encrypts and does not
/// compress.
const BLOCK: usize = 2 * 1024 * 1024;

/// Longest question, in bytes.
const MAX_QUESTION: u64 = 4096;

/// Longest test: the clients' own limit is 30 s (`MaxDuration`).
const MAX_TIME: Duration = Duration::from_secs(60);

/// How long the question may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
struct Question {
    version: u32,
    /// In nanoseconds.
    time: u64,
    direction: u8,
}

#[derive(Debug, Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// The agent sends.
    Download,
    /// The client sends.
    Upload,
}

impl Question {
    /// What to do, or why not.
    fn plan(&self) -> Result<(Direction, Duration), String> {
        if self.version != VERSION {
            return Err(format!("version {VERSION} is spoken here, not {}", self.version));
        }
        let direction = match self.direction {
            0 => Direction::Download,
            1 => Direction::Upload,
            other => return Err(format!("there is no direction {other}")),
        };
        let time = Duration::from_nanos(self.time);
        if time > MAX_TIME {
            return Err(format!("a test takes at most {MAX_TIME:?}"));
        }
        Ok((direction, time))
    }
}

/// Serves one test.
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) {
    match test(stream).await {
        Ok(bytes) => tracing::debug!(bytes, "a speed test has ended"),
        Err(error) => tracing::debug!(%error, "a speed test has failed"),
    }
}

async fn test(stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<u64> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    timeout(PATIENCE, (&mut stream).take(MAX_QUESTION).read_until(b'\n', &mut line)).await??;
    let plan = serde_json::from_slice::<Question>(&line)
        .map_err(|error| format!("the question is not understood: {error}"))
        .and_then(|question| question.plan());
    let error = plan.as_ref().err().cloned().unwrap_or_default();
    let mut answer = serde_json::to_vec(&Answer { error })?;
    answer.push(b'\n');
    stream.write_all(&answer).await?;
    stream.flush().await?;
    let Ok((direction, time)) = plan else {
        return stream.shutdown().await.map(|()| 0);
    };
    match direction {
        Direction::Download => send(&mut stream, time).await,
        Direction::Upload => receive(&mut stream, time).await,
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), time: Duration) -> std::io::Result<u64> {
    let (end, block, mut sent) = (Instant::now() + time, vec![0; BLOCK], 0);
    // A client that has closed has had enough.
    while Instant::now() < end {
        match tokio::time::timeout_at(end, stream.write_all(&block)).await {
            Ok(written) => written?,
            Err(_) => break,
        }
        sent += BLOCK as u64;
    }
    stream.shutdown().await?;
    Ok(sent)
}

async fn receive(stream: &mut (impl AsyncRead + Unpin), time: Duration) -> std::io::Result<u64> {
    let (mut buffer, mut received) = (vec![0; 256 * 1024], 0);
    // What is under way when the client's time is over still arrives.
    let end = Instant::now() + time + MAX_TIME;
    while let Ok(read) = tokio::time::timeout_at(end, stream.read(&mut buffer)).await {
        match read? {
            0 => break,
            count => received += count as u64,
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    async fn ask(
        question: &str,
    ) -> (String, tokio::io::DuplexStream, tokio::task::JoinHandle<u64>) {
        let (mut client, agent) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(async { test(agent).await.unwrap() });
        client.write_all(question.as_bytes()).await.unwrap();
        client.write_all(b"\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        (String::from_utf8(answer).unwrap(), client, serving)
    }

    #[tokio::test]
    async fn a_download() {
        let (answer, mut client, serving) =
            ask(r#"{"version":2,"time":50000000,"direction":0}"#).await;
        assert_eq!(answer, "{}\n");
        let (mut buffer, mut count) = (vec![0; 64 * 1024], 0);
        loop {
            match client.read(&mut buffer).await.unwrap() {
                0 => break,
                read => count += read as u64,
            }
        }
        let sent = serving.await.unwrap();
        assert!(count > 0 && count >= sent, "{count} of {sent}");
    }

    #[tokio::test]
    async fn an_upload() {
        let (answer, mut client, serving) =
            ask(r#"{"version":2,"time":5000000000,"direction":1}"#).await;
        assert_eq!(answer, "{}\n");
        client.write_all(&vec![7; 3_000_000]).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(serving.await.unwrap(), 3_000_000);
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_said() {
        for (question, expected) in [
            (r#"{"version":1,"time":1,"direction":0}"#, "version 2 is spoken here, not 1"),
            (r#"{"version":2,"time":1,"direction":7}"#, "no direction 7"),
            (r#"{"version":2,"time":600000000000,"direction":0}"#, "at most 60s"),
            ("what?", "not understood"),
        ] {
            let (answer, _, serving) = ask(question).await;
            assert!(answer.contains(expected), "{question}: {answer}");
            assert_eq!(serving.await.unwrap(), 0);
        }
    }
}
