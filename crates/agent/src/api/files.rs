//! Files of the workspace (`agent/agentfiles`).

use std::{
    ffi::OsString,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
    time::timeout,
};
use uuid::Uuid;

use super::{Answer, MAX_BODY, Query, Refusal, TIMEOUT, reply, response};
use crate::{agent::Agent, environment};

/// Symbolic links that are followed on the way to a file.
const MAX_LINKS: usize = 40;

/// Bytes read from a file at once.
const CHUNK: usize = 64 * 1024;

/// Longest file that is written, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// What to list, where no absolute path is given.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Listing {
    path: Vec<String>,
    relativity: String,
}

/// Lists a directory: directories first, then by name.
pub(super) async fn list(agent: &Arc<Agent>, request: Request<Incoming>) -> Answer {
    let query = Query::of(&request);
    let path = match query.get("path") {
        Some(path) => absolute(path)?,
        None => {
            let body = Limited::new(request.into_body(), MAX_BODY).collect();
            let body = match timeout(TIMEOUT, body).await {
                Ok(Ok(body)) => body.to_bytes(),
                Ok(Err(error)) => return Err(Refusal::bad_request(error.to_string())),
                Err(_) => return Err(Refusal::bad_request("the request took too long")),
            };
            let listing: Listing = serde_json::from_slice(&body)
                .map_err(|error| Refusal::bad_request(error.to_string()))?;
            let base = match listing.relativity.as_str() {
                "home" => environment::home(&agent.world.process),
                "root" => PathBuf::from("/"),
                other => {
                    let message = format!("unsupported relativity type {other:?}");
                    return Err(Refusal::bad_request(message));
                }
            };
            // As Go joins: what looks absolute is below as well.
            clean(
                &listing
                    .path
                    .iter()
                    .fold(base, |base, part| base.join(part.trim_start_matches('/'))),
            )
        }
    };
    let name = path.to_string_lossy().into_owned();
    let refused = |error: io::Error| Refusal::of(&error, &name);
    let mut directory = tokio::fs::read_dir(&path).await.map_err(refused)?;
    let mut contents = Vec::new();
    while let Some(entry) = directory.next_entry().await.map_err(refused)? {
        // One that has gone meanwhile is not there.
        let Ok(kind) = entry.file_type().await else { continue };
        contents.push((!kind.is_dir(), entry.file_name(), entry.path()));
    }
    contents.sort();
    let contents: Vec<_> = contents
        .into_iter()
        .map(|(is_file, name, path)| {
            json!({
                "name": name.to_string_lossy(),
                "absolute_path_string": path.to_string_lossy(),
                "is_dir": !is_file,
            })
        })
        .collect();
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    Ok(reply(
        StatusCode::OK,
        &json!({ "absolute_path": parts, "absolute_path_string": name, "contents": contents }),
    ))
}

/// Where a path leads through symbolic links; what does not exist stays as it is.
pub(super) async fn resolve(query: &Query) -> Answer {
    let path = required(query)?;
    let resolved = followed(&path).await?;
    Ok(reply(StatusCode::OK, &json!({ "resolved_path": resolved.to_string_lossy() })))
}

/// Reads a file, or `limit` bytes of it from `offset` on.
pub(super) async fn read(query: &Query) -> Answer {
    let path = required(query)?;
    let (offset, limit) = (query.number("offset")?, query.number("limit")?);
    let name = path.to_string_lossy().into_owned();
    let refused = |error: io::Error| Refusal::of(&error, &name);
    let mut file = File::open(&path).await.map_err(refused)?;
    let metadata = file.metadata().await.map_err(refused)?;
    if metadata.is_dir() {
        return Err(Refusal::bad_request(format!("{name:?} is not a file")));
    }
    let left = metadata.len().saturating_sub(offset);
    let length = if limit == 0 { left } else { left.min(limit) };
    file.seek(io::SeekFrom::Start(offset)).await.map_err(refused)?;
    let chunks = stream::try_unfold(file.take(length), |mut file| async {
        let mut chunk = Vec::with_capacity(CHUNK);
        let count = file.read_buf(&mut chunk).await?;
        Ok::<_, io::Error>((count > 0).then(|| (Frame::data(Bytes::from(chunk)), file)))
    });
    let body = StreamBody::new(chunks).boxed_unsync();
    let mut answer = response(StatusCode::OK, kind(&path), body);
    answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    Ok(answer)
}

/// Writes a file as a whole, or not at all: what was there before stays until the new content is.
pub(super) async fn write(request: Request<Incoming>) -> Answer {
    let path = followed(&required(&Query::of(&request))?).await?;
    let name = path.to_string_lossy().into_owned();
    let refused = |error: io::Error| Refusal::of(&error, &name);
    let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else {
        return Err(Refusal::bad_request(format!("{name:?} is not a file")));
    };
    tokio::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .await
        .map_err(refused)?;
    let before = match tokio::fs::metadata(&path).await {
        Ok(before) if before.is_dir() => {
            return Err(Refusal::bad_request(format!("{name:?} is a directory")));
        }
        Ok(before) => Some(before.permissions()),
        Err(_) => None,
    };
    let mut temporary = OsString::from(".");
    temporary.push(file);
    temporary.push(format!(".{}", Uuid::new_v4().simple()));
    let temporary = Removed(Some(directory.join(temporary)));
    let written = receive(request.into_body(), temporary.path(), before).await;
    written.map_err(refused)?;
    tokio::fs::rename(temporary.path(), &path).await.map_err(refused)?;
    temporary.keep();
    Ok(reply(StatusCode::OK, &json!({ "message": format!("Successfully wrote to {name:?}") })))
}

/// Writes a body to a new file.
async fn receive(
    mut body: Incoming,
    path: &Path,
    permissions: Option<std::fs::Permissions>,
) -> io::Result<()> {
    let mode = permissions.map_or(0o644, |before| before.mode() & 0o7777);
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.create_new(true).write(true).mode(mode).open(path).await?;
    let mut length = 0;
    while let Some(frame) = timeout(TIMEOUT, body.frame()).await? {
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
        length += data.len() as u64;
        if length > MAX_FILE {
            return Err(io::Error::other(format!("it is longer than {MAX_FILE} bytes")));
        }
        file.write_all(&data).await?;
    }
    // The mode above went through the umask.
    file.set_permissions(std::fs::Permissions::from_mode(mode)).await?;
    file.sync_all().await
}

/// A file that is removed when dropped.
struct Removed(Option<PathBuf>);

impl Removed {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may never have been made.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn required(query: &Query) -> Result<PathBuf, Refusal> {
    let path = query.get("path").ok_or_else(|| Refusal::bad_request("path is required"))?;
    absolute(path)
}

fn absolute(path: &str) -> Result<PathBuf, Refusal> {
    if path.contains('\0') {
        return Err(Refusal::bad_request("a path has no NUL"));
    }
    if !path.starts_with('/') {
        return Err(Refusal::bad_request(format!("file path must be absolute: {path:?}")));
    }
    Ok(clean(Path::new(path)))
}

/// A path without `.` and `..`, as its text says.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => clean.push(part),
        }
    }
    clean
}

/// Follows the links of a path, part by part.
async fn followed(path: &Path) -> Result<PathBuf, Refusal> {
    let refused = |error: io::Error| Refusal::of(&error, &path.to_string_lossy());
    let mut left: Vec<OsString> = parts(path);
    let (mut found, mut links) = (PathBuf::from("/"), 0);
    while let Some(part) = left.pop() {
        found.push(&part);
        match tokio::fs::read_link(&found).await {
            Ok(target) => {
                links += 1;
                if links > MAX_LINKS {
                    let message = format!("too many levels of symlinks resolving {path:?}");
                    return Err(Refusal::bad_request(message));
                }
                found.pop();
                let target = clean(&found.join(target));
                left.extend(parts(&target));
                found = PathBuf::from("/");
            }
            // No link, or nothing at all.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput
                        | io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    Ok(found)
}

/// The parts of a path, last first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter(|part| matches!(part, Component::Normal(_)));
    parts.map(|part| part.as_os_str().to_owned()).collect()
}

/// What a file is, by its name: the few kinds that somebody looks at in a browser.
fn kind(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "txt" | "log" | "md" => "text/plain; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in
            [("/a/./b/../c", "/a/c"), ("/../..", "/"), ("/a//b/", "/a/b"), ("/", "/")]
        {
            assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
        }
        assert_eq!(absolute("x").unwrap_err().status, StatusCode::BAD_REQUEST);
        assert_eq!(absolute("/x\0").unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn links_are_followed_and_what_is_missing_stays() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        std::os::unix::fs::symlink(root.join("link/file"), root.join("deep")).unwrap();
        std::os::unix::fs::symlink("b", root.join("a")).unwrap();
        std::os::unix::fs::symlink("a", root.join("b")).unwrap();
        for (path, expected) in [
            ("link/file", "real/file"),
            ("deep", "real/file"),
            ("deep/more", "real/file/more"),
            ("missing/x", "missing/x"),
            ("link", "real"),
        ] {
            assert_eq!(followed(&root.join(path)).await.unwrap(), root.join(expected), "{path}");
        }
        let refusal = followed(&root.join("a")).await.unwrap_err();
        assert!(refusal.message.contains("too many levels"), "{refusal:?}");
    }
}
