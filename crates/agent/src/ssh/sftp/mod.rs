//! The subsystem `sftp`: version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions.
//!
//! * `coderctl_ssh::sftp`: requests and answers on the wire, pure.
//! * `attributes`: what is said of a file, and how it is set.
//! * `files`: the requests done, on the file system as it is: whoever is here may do what the
//!   agent's user may.
//!
//! Requests that came together are done together in one blocking task, and their answers leave
//! together.

mod attributes;
mod files;

use std::{collections::VecDeque, io, path::PathBuf};

use bytes::{Bytes, BytesMut};
use coderctl_ssh::sftp::{self, Code, PACKET, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use self::files::Files;

/// Room for one read of requests.
const READ: usize = 64 * 1024;
/// Answers that are collected before they are sent, in bytes.
const ANSWERS: usize = 1 << 20;

/// Serves a client until it has no more requests. The directory is where relative paths begin; home
/// is what `~` stands for.
///
/// # Errors
/// What broke the streams; a client that breaks the protocol.
pub(super) async fn serve<R, W>(
    input: &mut R,
    output: &mut W,
    (directory, home): (PathBuf, PathBuf),
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut files = Files::new(directory, home);
    let mut buffer = BytesMut::new();
    loop {
        let mut requests = VecDeque::new();
        while let Some(request) = sftp::split(&mut buffer).map_err(too_long)? {
            requests.push_back(request);
        }
        if requests.is_empty() {
            buffer.reserve(READ);
            if input.read_buf(&mut buffer).await? > 0 {
                continue;
            }
            return match buffer.is_empty() {
                true => Ok(()),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        while !requests.is_empty() {
            let out;
            let work = tokio::task::spawn_blocking(move || {
                let mut out = BytesMut::new();
                while out.len() < ANSWERS
                    && let Some(request) = requests.pop_front()
                {
                    handle(&mut files, request, &mut out);
                }
                (files, requests, out)
            });
            (files, requests, out) = work.await?;
            output.write_all(&out).await?;
            output.flush().await?;
        }
    }
}

fn too_long(length: usize) -> io::Error {
    let text = format!("a packet of {length} bytes; 1 to {PACKET} are accepted");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn handle(files: &mut Files, packet: Bytes, out: &mut BytesMut) {
    match Request::parse(packet) {
        Ok((id, request)) => files.handle(id, request, out),
        Err(id) => Response::status(Code::BadMessage, "malformed request").write(id, out),
    }
}

#[cfg(test)]
mod tests;
