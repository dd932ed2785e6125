//! Requests through the wire, done in a directory of their own. Real clients are tried in
//! `tests/ssh_programs.rs`.

use coderctl_ssh::wire::{Put as _, Reader};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

/// A client that waits for each answer.
struct Client {
    io: DuplexStream,
    server: tokio::task::JoinHandle<io::Result<()>>,
    next: u32,
}

fn string(value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_string(value.as_ref());
    out
}

fn number(value: u64) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

/// Attributes that say nothing.
const NOTHING: [u8; 4] = [0; 4];

impl Client {
    async fn new(directory: &std::path::Path) -> Self {
        let (io, theirs) = tokio::io::duplex(1 << 16);
        let directory = directory.to_path_buf();
        let server = tokio::spawn(async move {
            let (mut input, mut output) = tokio::io::split(theirs);
            serve(&mut input, &mut output, (directory, "/home/me".into())).await
        });
        let mut client = Self { io, server, next: 0 };
        client.io.write_all(b"\0\0\0\x05\x01\0\0\0\x03").await.unwrap();
        let version = client.packet().await;
        assert_eq!(&version[..5], b"\x02\0\0\0\x03");
        client
    }

    async fn packet(&mut self) -> Vec<u8> {
        let length = self.io.read_u32().await.unwrap();
        let mut packet = vec![0; length as usize];
        self.io.read_exact(&mut packet).await.unwrap();
        packet
    }

    /// Kind and fields of the answer.
    async fn ask(&mut self, kind: u8, fields: &[&[u8]]) -> (u8, Vec<u8>) {
        self.next += 1;
        let mut packet = vec![kind];
        packet.extend_from_slice(&self.next.to_be_bytes());
        packet.extend(fields.concat());
        self.io.write_all(&string(packet)).await.unwrap();
        let answer = self.packet().await;
        assert_eq!(answer[1..5], self.next.to_be_bytes());
        (answer[0], answer[5..].to_vec())
    }

    /// The code of a status.
    async fn status(&mut self, kind: u8, fields: &[&[u8]]) -> u32 {
        let (kind, answer) = self.ask(kind, fields).await;
        assert_eq!(kind, 101);
        u32::from_be_bytes(answer[..4].try_into().unwrap())
    }

    async fn handle(&mut self, kind: u8, fields: &[&[u8]]) -> Vec<u8> {
        let (kind, answer) = self.ask(kind, fields).await;
        assert_eq!(kind, 102, "{}", String::from_utf8_lossy(&answer));
        answer
    }

    async fn extended(&mut self, name: &str, fields: &[&[u8]]) -> (u8, Vec<u8>) {
        let name = string(name);
        let all = [&[&name[..]], fields].concat();
        self.ask(200, &all).await
    }

    /// The first name of an answer with names.
    async fn name(&mut self, kind: u8, path: &str) -> String {
        let (kind, answer) = self.ask(kind, &[&string(path)]).await;
        assert_eq!(kind, 104);
        String::from_utf8(Reader::new(&answer[4..], "name").string().unwrap().to_vec()).unwrap()
    }

    async fn end(self) -> io::Result<()> {
        drop(self.io);
        self.server.await.unwrap()
    }
}

/// Read 1, write 2, append 4, create 8, truncate 16, exclusive 32.
fn flags(flags: u32) -> [u8; 4] {
    flags.to_be_bytes()
}

#[tokio::test]
async fn files_are_written_and_read() {
    let home = tempfile::tempdir().unwrap();
    let mut client = Client::new(home.path()).await;
    let mode = [&4u32.to_be_bytes()[..], &0o640u32.to_be_bytes()].concat();
    let file = client.handle(3, &[&string("new"), &flags(2 | 8 | 32), &mode]).await;
    assert_eq!(client.status(6, &[&file, &number(3), &string("defg")]).await, 0);
    assert_eq!(client.status(6, &[&file, &number(0), &string("abc")]).await, 0);
    assert_eq!(client.extended("fsync@openssh.com", &[&file]).await.0, 101);
    assert_eq!(client.status(4, &[&file]).await, 0);
    assert_eq!(client.status(4, &[&file]).await, 4, "twice");
    assert_eq!(std::fs::read(home.path().join("new")).unwrap(), b"abcdefg");

    let again = client.status(3, &[&string("new"), &flags(2 | 8 | 32), &NOTHING]).await;
    assert_eq!(again, 4, "it is there");
    let missing = client.status(3, &[&string("missing"), &flags(1), &NOTHING]).await;
    assert_eq!(missing, 2);

    let file = client.handle(3, &[&string("new"), &flags(1), &NOTHING]).await;
    let (kind, data) = client.ask(5, &[&file, &number(2), &flags(100)]).await;
    assert_eq!((kind, &data[..]), (103, &b"\0\0\0\x05cdefg"[..]));
    assert_eq!(client.status(5, &[&file, &number(7), &flags(100)]).await, 1, "its end");
    let (kind, stat) = client.ask(8, &[&file]).await;
    assert_eq!((kind, &stat[..12]), (105, &b"\0\0\0\x0f\0\0\0\0\0\0\0\x07"[..]));
    assert_eq!(&stat[20..24], &0o100_640u32.to_be_bytes());

    let file = client.handle(3, &[&string("new"), &flags(2 | 4), &NOTHING]).await;
    assert_eq!(client.status(6, &[&file, &number(0), &string("hi")]).await, 0);
    assert_eq!(std::fs::read(home.path().join("new")).unwrap(), b"abcdefghi");
    let size = [&1u32.to_be_bytes()[..], &number(2)].concat();
    assert_eq!(client.status(9, &[&string("new"), &size]).await, 0);
    assert_eq!(std::fs::read(home.path().join("new")).unwrap(), b"ab");
    client.end().await.unwrap();
}

#[tokio::test]
async fn directories_are_made_listed_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let mut client = Client::new(home.path()).await;
    assert_eq!(client.status(14, &[&string("d"), &NOTHING]).await, 0);
    for index in 0..250 {
        std::fs::write(home.path().join(format!("d/{index}")), "").unwrap();
    }
    let directory = client.handle(11, &[&string("d")]).await;
    let mut names = Vec::new();
    loop {
        let (kind, answer) = client.ask(12, &[&directory]).await;
        if kind == 101 {
            assert_eq!(answer[..4], [0, 0, 0, 1], "the end");
            break;
        }
        let mut reader = Reader::new(&answer, "names");
        for _ in 0..reader.u32().unwrap() {
            names.push(reader.text().unwrap().to_owned());
            assert!(reader.text().unwrap().ends_with(names.last().unwrap()));
            // Size, owner, permissions and times.
            reader.take(4 + 8 + 8 + 4 + 8).unwrap();
        }
    }
    names.sort();
    assert_eq!((names.len(), &names[0][..], &names[1][..]), (252, ".", ".."));
    assert_eq!(client.status(15, &[&string("d")]).await, 4, "it is not empty");
    assert_eq!(client.status(13, &[&string("d")]).await, 4, "it is no file");
    for index in 0..250 {
        assert_eq!(client.status(13, &[&string(format!("d/{index}"))]).await, 0);
    }
    assert_eq!(client.status(15, &[&string("d")]).await, 0);
    assert_eq!(client.status(15, &[&string("d")]).await, 2);
    client.end().await.unwrap();
}

#[tokio::test]
async fn names_are_changed_and_linked() {
    let home = tempfile::tempdir().unwrap();
    let real = home.path().canonicalize().unwrap();
    std::fs::write(home.path().join("a"), "a").unwrap();
    std::fs::write(home.path().join("b"), "b").unwrap();
    let mut client = Client::new(home.path()).await;
    let (a, b, c) = (string("a"), string("b"), string("c"));
    assert_eq!(client.status(18, &[&a, &b]).await, 4, "there is a b");
    assert_eq!(client.extended("posix-rename@openssh.com", &[&a, &b]).await.1[..4], [0; 4]);
    assert_eq!(std::fs::read(home.path().join("b")).unwrap(), b"a");
    assert_eq!(client.status(18, &[&b, &a]).await, 0);
    assert_eq!(client.extended("hardlink@openssh.com", &[&a, &b]).await.1[..4], [0; 4]);
    // OpenSSH's order: what it leads to, then the link.
    assert_eq!(client.status(20, &[&a, &c]).await, 0);
    assert_eq!(std::fs::read_link(home.path().join("c")).unwrap(), std::path::Path::new("a"));
    assert_eq!(client.name(19, "c").await, "a");
    assert_eq!(client.name(16, "c").await, real.join("a").to_str().unwrap());
    assert_eq!(client.name(16, ".").await, real.to_str().unwrap());
    assert_eq!(client.name(16, "").await, real.to_str().unwrap());
    assert_eq!(client.name(16, "/nowhere/./x/../y").await, "/nowhere/y");
    let (_, link) = client.ask(7, &[&c]).await;
    let (_, file) = client.ask(17, &[&c]).await;
    assert_eq!((link[20..22].to_vec(), file[20..22].to_vec()), (vec![0, 0], vec![0, 0]));
    assert_eq!((link[22] & 0xf0, file[22] & 0xf0), (0xa0, 0x80), "a link, a file");
    // Names need not be text.
    let odd = string(b"\xff\xfe");
    assert_eq!(client.status(18, &[&b, &odd]).await, 0);
    let stat = client.ask(17, &[&odd]).await.0;
    assert_eq!(stat, 105);
    client.end().await.unwrap();
}

#[tokio::test]
async fn what_else_openssh_asks_for() {
    let home = tempfile::tempdir().unwrap();
    let mut client = Client::new(home.path()).await;
    let (kind, limits) = client.extended("limits@openssh.com", &[]).await;
    assert_eq!((kind, limits.len()), (201, 32));
    assert_eq!(limits[..8], number(256 * 1024));
    let (kind, found) = client.extended("statvfs@openssh.com", &[&string(".")]).await;
    assert_eq!((kind, found.len()), (201, 88));
    let (kind, name) = client.extended("expand-path@openssh.com", &[&string("~/x")]).await;
    assert_eq!(kind, 104);
    assert_eq!(name[8..18], *b"/home/me/x");
    assert_eq!(client.extended("unknown@example.com", &[]).await.1[..4], [0, 0, 0, 8]);
    assert_eq!(client.status(99, &[]).await, 8);
    assert_eq!(client.status(17, &[b"\0\0\0\x09/"]).await, 5, "malformed");
    client.end().await.unwrap();
}

#[tokio::test]
async fn a_client_that_breaks_off_or_floods_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let mut client = Client::new(home.path()).await;
    client.io.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
    assert_eq!(client.end().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let mut client = Client::new(home.path()).await;
    client.io.write_all(&[0xff; 4]).await.unwrap();
    assert_eq!(client.end().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// More answers than are held at a time, asked for in one go.
#[tokio::test]
async fn many_requests_may_be_under_way() {
    let home = tempfile::tempdir().unwrap();
    let block: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
    std::fs::write(home.path().join("f"), &block).unwrap();
    let mut client = Client::new(home.path()).await;
    let file = client.handle(3, &[&string("f"), &flags(1), &NOTHING]).await;
    let mut requests = Vec::new();
    for id in 0..40u32 {
        let mut packet = vec![5];
        packet.extend_from_slice(&id.to_be_bytes());
        packet.extend([&file[..], &number(0), &flags(200_000)].concat());
        requests.extend(string(packet));
    }
    client.io.write_all(&requests).await.unwrap();
    for id in 0..40u32 {
        let answer = client.packet().await;
        assert_eq!((answer[0], &answer[1..5]), (103, &id.to_be_bytes()[..]));
        assert!(answer[9..] == block[..]);
    }
    client.end().await.unwrap();
}
