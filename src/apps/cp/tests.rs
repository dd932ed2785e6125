//! Copies between a directory here and a scripted server, which may be anything but honest.

#![allow(clippy::wildcard_enum_match_arm, reason = "a script answers what it is about")]

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use bytes::{Bytes, BytesMut};
use coderctl_ssh::sftp::{self, Attributes, Code, Name as Listed, Request as Asked, Response};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

use super::*;
use crate::ui;

/// A server's answer, or nothing any more.
type Script = Box<dyn FnMut(&Asked) -> Option<Response> + Send>;

/// Serves until the script gives up, or the client has gone.
fn serve(mut script: Script) -> (DuplexStream, JoinHandle<()>) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let task = tokio::spawn(async move {
        let mut input = BytesMut::new();
        loop {
            let mut out = BytesMut::new();
            while let Some(packet) = sftp::split(&mut input).unwrap() {
                let (id, request) = Asked::parse(packet).unwrap();
                let answer = match request {
                    Asked::Init => Some(Response::Version { version: 3, extensions: vec![] }),
                    request => script(&request),
                };
                let Some(answer) = answer else { return };
                answer.write(id, &mut out);
            }
            // The client may be gone.
            if theirs.write_all(&out).await.is_err()
                || theirs.read_buf(&mut input).await.unwrap_or(0) == 0
            {
                return;
            }
        }
    });
    (ours, task)
}

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

fn said(mode: u32, size: u64) -> Attributes {
    let (permissions, times) = (Some(mode), Some((5, 1_000_000_000)));
    Attributes { size: Some(size), permissions, times, owner: None }
}

fn listed(name: &[u8], mode: u32, size: u64) -> Listed {
    let name = Bytes::copy_from_slice(name);
    Listed { long: name.clone(), name, attributes: said(mode, size) }
}

fn status(code: Code) -> Response {
    Response::status(code, "no")
}

/// An honest server of one directory `d` with these entries, all files having this content.
fn honest(entries: Vec<Listed>, content: &'static [u8]) -> Script {
    let mut told = false;
    Box::new(move |request| {
        Some(match request {
            Asked::Stat { path, .. } if &path[..] == b"d" => {
                Response::Attributes(said(DIRECTORY, 0))
            }
            Asked::OpenDirectory { .. } | Asked::Open { .. } => {
                Response::Handle(Bytes::from_static(b"h"))
            }
            Asked::ReadDirectory { .. } if told => status(Code::Eof),
            Asked::ReadDirectory { .. } => {
                told = true;
                Response::Names(entries.clone())
            }
            Asked::Read { offset, length, .. } => {
                let rest = content.get(*offset as usize..).unwrap_or_default();
                let rest = &rest[..rest.len().min(*length as usize)];
                match rest.is_empty() {
                    true => status(Code::Eof),
                    false => Response::Data(Bytes::from_static(rest)),
                }
            }
            Asked::ReadLink { .. } => Response::path(b"../../etc".to_vec()),
            Asked::Close { .. } => status(Code::Ok),
            _ => status(Code::NoSuchFile),
        })
    })
}

/// What a copy of `d` from this server came to.
struct Came {
    home: TempDir,
    error: Option<CommandError>,
    said: String,
    files: u64,
}

impl Came {
    /// All that is there, below the directory that was copied to, with the contents of files.
    fn found(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        walk(&self.home.path().join("to/d"), "", &mut found);
        found
    }

    #[track_caller]
    fn refused(&self, kind: Kind, words: &str) {
        let error = self.error.as_ref().unwrap_or_else(|| panic!("it went well: {}", self.said));
        assert!(error.kind == kind && error.to_string().contains(words), "{error}");
        assert_eq!(self.found(), BTreeMap::new());
    }
}

fn walk(at: &Path, under: &str, found: &mut BTreeMap<String, String>) {
    let Ok(entries) = std::fs::read_dir(at) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{under}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            walk(&entry.path(), &format!("{name}/"), found);
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            found.insert(name, format!("-> {}", target.display()));
        } else {
            found.insert(name, String::from_utf8(std::fs::read(entry.path()).unwrap()).unwrap());
        }
    }
}

async fn download_with(script: Script, options: Options, home: TempDir) -> Came {
    let (stream, server) = serve(script);
    let (input, output) = tokio::io::split(stream);
    let (ui, capture) = Ui::captured(ui::Options::default());
    let bar = ui.bar("Copying");
    let mut files = 0;
    let error = match Sftp::begin(input, output).await {
        Err(error) => Some(error.into()),
        Ok(sftp) => {
            let remote = Remote { sftp };
            let copier = Copier::new(&remote, &Local, options, false, &ui, &bar);
            let to = home.path().join("to");
            std::fs::create_dir_all(&to).unwrap();
            let destination = to.as_os_str().as_bytes();
            let copied = async {
                let steps = plan(&copier, options, &[b"d"], destination, &bar).await?;
                copier.run(steps).await
            };
            let error = copied.await.err();
            copier.tidy().await;
            files = copier.tally.files.load(Ordering::Relaxed);
            error
        }
    };
    server.abort();
    Came { home, error, said: capture.stderr(), files }
}

async fn download(script: Script) -> Came {
    let options = Options { recursive: true, ..Options::default() };
    download_with(script, options, TempDir::new().unwrap()).await
}

#[tokio::test]
async fn files_and_links_arrive_whole() {
    let entries = vec![
        listed(b".", DIRECTORY, 0),
        listed(b"..", DIRECTORY, 0),
        listed(b"-rf \"a\"\n", FILE, 5),
        listed(b"link", LINK, 3),
        listed(b"pipe", 0o010_644, 0),
    ];
    let came = download(honest(entries, b"hello")).await;
    assert!(came.error.is_none(), "{:?}", came.error);
    let expected = [("-rf \"a\"\n", "hello"), ("link", "-> ../../etc")];
    let expected = expected.map(|(name, content)| (name.to_owned(), content.to_owned()));
    assert_eq!(came.found(), BTreeMap::from(expected));
    assert!(came.said.contains("`d/pipe`: it is neither a file"), "{}", came.said);
}

#[tokio::test]
async fn names_that_lead_elsewhere_end_the_copy() {
    for name in [&b"../evil"[..], b"/etc/evil", b"a/b", b"", b"a\0b"] {
        let came = download(honest(vec![listed(name, FILE, 5)], b"hello")).await;
        came.refused(Kind::Protocol, "which is no name");
    }
}

#[tokio::test]
async fn a_link_and_a_directory_of_one_name_lead_nowhere() {
    let entries = vec![listed(b"x", LINK, 0), listed(b"x", DIRECTORY, 0)];
    let came = download(honest(entries, b"hello")).await;
    assert!(came.said.contains("`x` is listed twice in it"), "{}", came.said);
    // What is a link here is not gone through either.
    let home = TempDir::new().unwrap();
    let outside = home.path().join("outside");
    std::fs::create_dir_all(home.path().join("to/d")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, home.path().join("to/d/x")).unwrap();
    let options = Options { recursive: true, force: true, ..Options::default() };
    let came =
        download_with(honest(vec![listed(b"x", DIRECTORY, 0)], b"hello"), options, home).await;
    assert!(came.said.contains("is there already, and is no directory"), "{}", came.said);
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
}

#[tokio::test]
async fn sizes_that_lie_are_told_and_nothing_is_half_written() {
    let came = download(honest(vec![listed(b"long", FILE, 3)], b"hello")).await;
    assert!(came.said.contains("it has more than the 3 bytes"), "{}", came.said);
    assert_eq!(came.found()["long"], "hel");
    let came = download(honest(vec![listed(b"short", FILE, 7)], b"hello")).await;
    assert!(came.said.contains("it ended at 5 bytes"), "{}", came.said);
    assert_eq!((came.found(), came.files), (BTreeMap::new(), 0));
    let came = download(honest(vec![listed(b"huge", FILE, u64::MAX)], b"hello")).await;
    assert!(came.said.contains("it ended at 5 bytes"), "{}", came.said);
    // As those of /proc.
    let came = download(honest(vec![listed(b"empty", FILE, 0)], b"hello")).await;
    assert_eq!(came.found()["empty"], "hello");
}

/// An honest server but for one kind of answer.
fn but(lie: impl Fn(&Asked) -> Option<Response> + Send + 'static) -> Script {
    let mut honest = honest(vec![listed(b"f", FILE, 5)], b"hello");
    Box::new(move |request| lie(request).or_else(|| honest(request)))
}

#[tokio::test]
async fn answers_that_nobody_gives_end_the_copy() {
    let handle = |request: &Asked| match request {
        Asked::Open { .. } => Some(Response::Handle(vec![b'h'; 257].into())),
        _ => None,
    };
    download(but(handle)).await.refused(Kind::Protocol, "a handle of 257 bytes");
    let data = |request: &Asked| match request {
        Asked::Read { .. } => Some(Response::Data(vec![0; 1000].into())),
        _ => None,
    };
    download(but(data)).await.refused(Kind::Protocol, "sent 1000 bytes where");
    let nothing = |request: &Asked| match request {
        Asked::Read { .. } => Some(Response::Data(Bytes::new())),
        _ => None,
    };
    download(but(nothing)).await.refused(Kind::Protocol, "sent 0 bytes where");
    let kind = |request: &Asked| match request {
        Asked::ReadDirectory { .. } => Some(Response::path(b"f".to_vec())),
        _ => None,
    };
    download(but(kind)).await.refused(Kind::Protocol, "does not say what `f` in `d` is");
    let other = |request: &Asked| match request {
        Asked::Stat { .. } => Some(Response::Handle(Bytes::new())),
        _ => None,
    };
    download(but(other)).await.refused(Kind::Protocol, "answered with a handle");
}

#[tokio::test]
async fn directories_without_an_end_have_one_here() {
    let empty = |request: &Asked| match request {
        Asked::ReadDirectory { .. } => Some(Response::Names(Vec::new())),
        _ => None,
    };
    download(but(empty)).await.refused(Kind::Protocol, "without an end");
    let number = Mutex::new(0u64);
    let wide = move |request: &Asked| match request {
        Asked::ReadDirectory { .. } => {
            let mut number = number.lock().unwrap();
            let names = (0..5000).map(|_| {
                *number += 1;
                listed(number.to_string().as_bytes(), FILE, 0)
            });
            Some(Response::Names(names.collect()))
        }
        _ => None,
    };
    let came = download(but(wide)).await;
    assert!(came.said.contains("it has more than 1048576 entries"), "{}", came.said);
    // Each directory has another in it.
    let open = Mutex::new(true);
    let deep = move |request: &Asked| match request {
        Asked::OpenDirectory { .. } => {
            *open.lock().unwrap() = true;
            None
        }
        Asked::ReadDirectory { .. } => match std::mem::take(&mut *open.lock().unwrap()) {
            true => Some(Response::Names(vec![listed(b"d", DIRECTORY, 0)])),
            false => Some(status(Code::Eof)),
        },
        _ => None,
    };
    let came = download(but(deep)).await;
    assert!(came.said.contains("nested more than 256 deep"), "{}", came.said);
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_nothing_half_written() {
    for answers in 0..6 {
        let mut left = answers;
        let mut honest = honest(vec![listed(b"f", FILE, 5)], b"hello");
        let script = Box::new(move |request: &Asked| {
            left -= i32::from(left > 0);
            if left == 0 { None } else { honest(request) }
        });
        let came = download(script).await;
        came.refused(Kind::Lost, "the file transfer broke off");
    }
}

#[tokio::test]
async fn what_an_earlier_copy_left_is_gone_on_with() {
    let options = Options { recursive: true, resume: true, ..Options::default() };
    let (cut, whole) = (Mutex::new(1), vec![listed(b"f", FILE, 5)]);
    let cut = move |request: &Asked| match request {
        Asked::Close { .. } => {
            *cut.lock().unwrap() -= 1;
            None
        }
        Asked::Read { .. } if *cut.lock().unwrap() < 1 => Some(status(Code::Failure)),
        _ => None,
    };
    let came = download_with(but(cut), options, TempDir::new().unwrap()).await;
    let names: Vec<_> = came.found().into_keys().collect();
    assert!(names.len() == 1 && names[0].ends_with(".part"), "{names:?} {}", came.said);
    let came = download_with(honest(whole.clone(), b"hello"), options, came.home).await;
    assert_eq!((came.found().len(), came.files), (1, 1), "{}", came.said);
    assert_eq!(came.found()["f"], "hello");
    // It is whole now, and as old as it is there.
    let came = download_with(honest(whole.clone(), b"hello"), options, came.home).await;
    assert_eq!((came.error.is_none(), came.files), (true, 0));
    // Another of that name is not replaced.
    let came =
        download_with(honest(vec![listed(b"f", FILE, 4)], b"hell"), options, came.home).await;
    assert!(came.said.contains("--force replaces it"), "{}", came.said);
    assert_eq!(came.found()["f"], "hello");
    let force = Options { force: true, ..options };
    let came = download_with(honest(vec![listed(b"f", FILE, 4)], b"hell"), force, came.home).await;
    assert_eq!(came.found()["f"], "hell");
}

#[tokio::test]
async fn old_servers_and_odd_ones_are_told_apart() {
    for (bytes, words) in [
        (&b"\0\0\0\x05\x02\0\0\0\x02"[..], "speaks version 2 only; 3 is needed"),
        (b"Welcome to this machine!\n", "sent a packet of 1466264675 bytes"),
        (b"\0\0\0\x05\x65\0\0\0\x09", "sent a malformed"),
        (b"\0\0\0\x09\x65\0\0\0\x09\0\0\0\0", "answered what nobody had asked"),
        (b"\0\0\0\x09\x65\0\0\0\0\0\0\0\0", "answered with success, which was not asked for"),
    ] {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(bytes).await.unwrap();
        let (input, output) = tokio::io::split(ours);
        let Err(error) = Sftp::begin(input, output).await else { panic!("{words}") };
        let error = CommandError::from(error);
        assert_eq!(error.kind, Kind::Protocol, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}
