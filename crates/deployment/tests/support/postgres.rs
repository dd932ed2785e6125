//! A PostgreSQL of the tests' own: in a temporary directory, on a Unix socket, without a network.
//!
//! Any test that includes this file (`#[path]`) shares one server per process; each asks for a
//! database of its own. Without PostgreSQL on the machine the tests say loudly that they were
//! skipped, unless `CODERCTL_REQUIRE_POSTGRES` is set: then they fail.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests; not every one that includes this uses all of it"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use sqlx::{Connection as _, Executor as _, PgConnection};

/// Set by those who want a failure instead of a skipped test.
const REQUIRE: &str = "CODERCTL_REQUIRE_POSTGRES";

/// A running server; stopped, and its files removed, when the last holder drops it.
pub struct Postgres {
    server: Child,
    directory: tempfile::TempDir,
    databases: AtomicUsize,
}

static RUNNING: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

impl Postgres {
    /// The server of this process; none (and a loud word) if the machine has no PostgreSQL.
    pub fn shared(test: &str) -> Option<Arc<Self>> {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(postgres) = running.upgrade() {
            return Some(postgres);
        }
        let Some(binaries) = binaries() else {
            assert!(
                std::env::var_os(REQUIRE).is_none(),
                "{REQUIRE} is set, but no initdb and postgres are in PATH or \
                 /usr/lib/postgresql/*/bin"
            );
            eprintln!(
                "\n!!! SKIPPED: {test}: no PostgreSQL on this machine \
                 (apt-get install postgresql)\n"
            );
            return None;
        };
        let postgres = Arc::new(Self::start(&binaries));
        *running = Arc::downgrade(&postgres);
        Some(postgres)
    }

    fn start(binaries: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("coderctl-pg-").tempdir().unwrap();
        let owner = unprivileged();
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = directory.path().join("data");
        let made = command(&binaries.join("initdb"), owner)
            .arg("-D")
            .arg(&data)
            .args(["-A", "trust", "-U", "coderctl", "-E", "UTF8", "--no-sync"])
            .args(["--no-locale", "--no-instructions"])
            .current_dir("/")
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}{}",
            String::from_utf8_lossy(&made.stdout),
            String::from_utf8_lossy(&made.stderr)
        );
        let mut server = command(&binaries.join("postgres"), owner)
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(directory.path())
            // No network; no fsync: it need not outlive the machine.
            .args(["-h", "", "-F", "-c", "max_connections=200"])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let mut log = String::new();
        loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("postgres ended before it was ready:\n{log}");
            };
            if line.contains("database system is ready to accept connections") {
                break;
            }
            log.push_str(&line);
            log.push('\n');
        }
        // What it says later is nobody's concern, but it must have somebody to say it to.
        std::thread::spawn(move || lines.for_each(drop));
        Self { server, directory, databases: AtomicUsize::new(0) }
    }

    /// A new, empty database; its URL.
    pub async fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        self.url(&name)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://coderctl@localhost/{database}?host={}", self.directory.path().display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once: SIGQUIT ends its children, too, which SIGKILL would not.
        if let Ok(pid) = i32::try_from(self.server.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ = self.server.wait();
    }
}

/// The directory of the newest `initdb` and `postgres`.
fn binaries() -> Option<PathBuf> {
    let complete =
        |directory: &Path| ["initdb", "postgres"].iter().all(|name| directory.join(name).is_file());
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let directory = entry.path().join("bin");
            complete(&directory).then_some((version, directory))
        })
        .collect();
    versions.sort();
    versions.pop().map(|(_, directory)| directory).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|directory| complete(directory))
    })
}

/// PostgreSQL refuses to run as root: then the user and group to run it as.
fn unprivileged() -> Option<(u32, u32)> {
    // Whoever owns this process owns its entry here.
    let root = fs::metadata("/proc/self").ok()?.uid() == 0;
    if !root {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    ["postgres", "nobody"].iter().find_map(|name| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn command(binary: &Path, owner: Option<(u32, u32)>) -> Command {
    let Some((uid, gid)) = owner else {
        return Command::new(binary);
    };
    // The directory is entered by its owner alone, as initdb wants it.
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={uid}"))
        .arg(format!("--regid={gid}"))
        .arg("--clear-groups")
        .arg("--")
        .arg(binary);
    command
}

/// The mode bits of a file.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
