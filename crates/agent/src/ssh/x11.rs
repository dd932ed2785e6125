//! X11 forwarding: a display here, behind which is the client's.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use coderctl_ssh::{
    server::{Opener, Outgoing, X11},
    wire::Reader,
};
use futures_util::FutureExt as _;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use super::forward;
use crate::environment::Environment;

/// The port of display 0.
const BASE: u16 = 6000;
/// The displays that are used: 10 to 200 (`agent/agentssh/x11.go`). Below may be real ones.
const NUMBERS: std::ops::RangeInclusive<u16> = 10..=200;
/// An internet name in `~/.Xauthority` (`Xauth.h`: `FamilyLocal`).
const FAMILY_LOCAL: u16 = 256;
/// How long the owner of a display that is to make room may take.
const EVICTION: Duration = Duration::from_secs(5);

/// The displays of all sessions.
#[derive(Debug, Default)]
pub(super) struct Displays {
    open: Arc<Mutex<Vec<Open>>>,
    /// Counts uses, so that the one that was used least recently is known.
    clock: Arc<AtomicU64>,
    /// One change of `~/.Xauthority` at a time.
    cookies: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Open {
    number: u16,
    used: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// A session's display; it is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Display {
    open: Arc<Mutex<Vec<Open>>>,
    /// Which of them: the numbers are used again.
    used: Arc<AtomicU64>,
    name: String,
}

impl Display {
    /// For `DISPLAY`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|open| Arc::ptr_eq(&open.used, &self.used)) {
            open.swap_remove(at).task.abort();
        }
    }
}

impl Displays {
    /// Opens a display for a session, and puts its cookie where programs look for it.
    ///
    /// # Errors
    /// The system's; a cookie that is none.
    pub(super) async fn listen(
        &self,
        request: &X11,
        opener: &Opener,
        environment: &Environment,
    ) -> io::Result<Display> {
        let cookie = hex(&request.cookie)
            .ok_or_else(|| io::Error::other("the cookie is not in hexadecimal digits"))?;
        let (number, listener) = self.bind(NUMBERS).await?;
        let entry = Entry {
            family: FAMILY_LOCAL,
            address: rustix::system::uname().nodename().to_bytes().to_vec(),
            number: number.to_string().into_bytes(),
            protocol: request.protocol.clone().into_bytes(),
            cookie,
        };
        {
            let _one = self.cookies.lock().await;
            let file = environment.home().join(".Xauthority");
            tokio::task::spawn_blocking(move || store(&file, entry)).await??;
        }
        let used = Arc::new(AtomicU64::new(self.tick()));
        let task = tokio::spawn(
            serve(
                listener,
                opener.clone(),
                request.single,
                (Arc::clone(&self.clock), Arc::clone(&used)),
            )
            .boxed(),
        );
        let open = Open { number, used: Arc::clone(&used), task };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(open);
        let name = format!("localhost:{number}.{}", request.screen);
        Ok(Display { open: Arc::clone(&self.open), used, name })
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// The first port that is free; when none is, the display of ours that was used least
    /// recently makes room.
    async fn bind(&self, numbers: impl IntoIterator<Item = u16>) -> io::Result<(u16, TcpListener)> {
        let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
        for number in numbers {
            match TcpListener::bind(("localhost", BASE + number)).await {
                Ok(listener) => return Ok((number, listener)),
                Err(error) => refused = error,
            }
        }
        let oldest = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let ages = open.iter().enumerate();
            let oldest = ages.min_by_key(|(_, open)| open.used.load(Ordering::Relaxed));
            oldest.map(|(at, _)| at).map(|at| open.swap_remove(at))
        };
        let Some(Open { number, task, .. }) = oldest else { return Err(refused) };
        tracing::debug!(number, "a display makes room for another");
        task.abort();
        // The listener is closed when its task is gone.
        if timeout(EVICTION, task).await.is_err() {
            return Err(refused);
        }
        Ok((number, TcpListener::bind(("localhost", BASE + number)).await?))
    }
}

async fn serve(
    listener: TcpListener,
    opener: Opener,
    single: bool,
    (clock, used): (Arc<AtomicU64>, Arc<AtomicU64>),
) {
    let next = || async {
        let (stream, peer) = listener.accept().await?;
        used.store(clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Ok((stream, Outgoing::X11 { origin: (peer.ip().to_string(), peer.port()) }))
    };
    if single {
        forward::accept_one(next, &opener).await;
    } else {
        forward::accept(next, &opener).await;
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect())
}

/// An entry of `~/.Xauthority` (`Xau`, `AuWrite.c`): who serves which display, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    family: u16,
    address: Vec<u8>,
    number: Vec<u8>,
    protocol: Vec<u8>,
    cookie: Vec<u8>,
}

impl Entry {
    fn fields(&self) -> [&[u8]; 4] {
        [&self.address, &self.number, &self.protocol, &self.cookie]
    }

    fn write(&self, out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(&self.family.to_be_bytes());
        for field in self.fields() {
            let length = u16::try_from(field.len())
                .map_err(|_| io::Error::other("a field of an X11 cookie is too long"))?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(field);
        }
        Ok(())
    }

    /// Reads a file's entries, as far as they make sense.
    fn read_all(bytes: &[u8]) -> Vec<Self> {
        let mut reader = Reader::new(bytes, "Xauthority entry");
        std::iter::from_fn(|| {
            let mut number = || {
                let bytes = reader.take(2).ok()?;
                Some(u16::from_be_bytes([bytes[0], bytes[1]]))
            };
            let family = number()?;
            let mut field = || {
                let bytes = reader.take(2).ok()?;
                let length = u16::from_be_bytes([bytes[0], bytes[1]]);
                reader.take(length.into()).ok().map(<[u8]>::to_vec)
            };
            let (address, number, protocol, cookie) = (field()?, field()?, field()?, field()?);
            Some(Self { family, address, number, protocol, cookie })
        })
        .collect()
    }

    /// Whether it is for the same display.
    fn is_for(&self, other: &Self) -> bool {
        (self.family, &self.address, &self.number, &self.protocol)
            == (other.family, &other.address, &other.number, &other.protocol)
    }
}

/// Puts an entry into the file in place of one for the same display. The file is replaced as a
/// whole, and is for this user alone.
fn store(file: &Path, entry: Entry) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let known = match std::fs::read(file) {
        Ok(bytes) => Entry::read_all(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut out = Vec::new();
    for kept in known.iter().filter(|known| !known.is_for(&entry)) {
        kept.write(&mut out)?;
    }
    entry.write(&mut out)?;
    let mut new = PathBuf::from(file);
    new.as_mut_os_string().push(format!("-{}", uuid::Uuid::new_v4().simple()));
    let written = (|| {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&new)?.write_all(&out)?;
        std::fs::rename(&new, file)
    })();
    if written.is_err()
        && let Err(error) = std::fs::remove_file(&new)
    {
        tracing::debug!(%error, "a half-written Xauthority stays");
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: &str, cookie: &[u8]) -> Entry {
        Entry {
            family: FAMILY_LOCAL,
            address: b"host".to_vec(),
            number: number.into(),
            protocol: b"MIT-MAGIC-COOKIE-1".to_vec(),
            cookie: cookie.to_vec(),
        }
    }

    /// The bytes that `xauth add host/unix:10 . 0102` writes.
    #[test]
    fn entries_are_as_xauth_writes_them() {
        let mut out = Vec::new();
        entry("10", &[1, 2]).write(&mut out).unwrap();
        assert_eq!(out, b"\x01\0\0\x04host\0\x0210\0\x12MIT-MAGIC-COOKIE-1\0\x02\x01\x02");
        assert_eq!(Entry::read_all(&out), [entry("10", &[1, 2])]);
        for end in 0..out.len() {
            assert_eq!(Entry::read_all(&out[..end]), []);
        }
    }

    #[test]
    fn a_cookie_replaces_that_of_the_same_display() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".Xauthority");
        for (number, cookie) in [("10", [1]), ("11", [2]), ("10", [3])] {
            store(&file, entry(number, &cookie)).unwrap();
        }
        let stored = Entry::read_all(&std::fs::read(&file).unwrap());
        assert_eq!(stored, [entry("11", &[2]), entry("10", &[3])]);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "nothing else stays");
        let long = Entry { address: vec![0; 70_000], ..entry("10", &[]) };
        store(&file, long).unwrap_err();
        assert_eq!(Entry::read_all(&std::fs::read(&file).unwrap()).len(), 2);
    }

    #[test]
    fn cookies_are_hexadecimal() {
        assert_eq!(hex("00fFa5"), Some(vec![0, 255, 0xa5]));
        assert_eq!(hex(""), Some(vec![]));
        for text in ["0", "0g", "ä0"] {
            assert_eq!(hex(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn the_display_used_least_recently_makes_room() {
        let displays = Displays::default();
        // Numbers that are free here, whatever else runs.
        let mut numbers = Vec::new();
        for age in [5, 3, 4] {
            let free = NUMBERS.filter(|number| !numbers.contains(number)).rev();
            let (number, listener) = displays.bind(free).await.unwrap();
            numbers.push(number);
            let task = tokio::spawn(
                async move {
                    let _listener = listener;
                    std::future::pending::<()>().await;
                }
                .boxed(),
            );
            let used = Arc::new(AtomicU64::new(age));
            displays.open.lock().unwrap().push(Open { number, used, task });
        }
        let (number, listener) = displays.bind(numbers.clone()).await.unwrap();
        assert_eq!(number, numbers[1]);
        assert_eq!(listener.local_addr().unwrap().port(), BASE + number);
        assert_eq!(displays.open.lock().unwrap().len(), 2);
        let (number, _listener) = displays.bind(numbers.clone()).await.unwrap();
        assert_eq!(number, numbers[2]);
    }
}
