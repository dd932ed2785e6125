//! Where the deployment and the token are kept: the files of the `coder` client.
//!
//! | file | content |
//! |---|---|
//! | `url` | the deployment's URL |
//! | `session` | the session token |
//!
//! They lie in `$CODER_CONFIG_DIR`, else in `coderv2` under `$XDG_CONFIG_HOME` or `~/.config`
//! (macOS: `~/Library/Application Support`), mode 0600 in a directory of mode 0750. What is read
//! is trimmed; what is written replaces the old file in one step, so that a reader never sees
//! half a token (coder/coder: cli/config/file.go has the names and modes).

use std::{
    env, fs, io,
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    error::{CommandError, Kind},
    ui::escape,
    whole::{self, Access},
};

/// Largest file that is read, in bytes: a URL and a token have about a hundred.
const LARGEST: u64 = 64 * 1024;

/// The directory of the login.
#[derive(Debug, Clone)]
pub struct Config {
    directory: Option<PathBuf>,
}

/// A file of the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// The deployment's URL.
    Url,
    /// The session token.
    Session,
}

impl File {
    fn name(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Session => "session",
        }
    }
}

/// A file of the login that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither `HOME` nor a variable that names the directory is set.
    #[error("no place for the login: neither CODER_CONFIG_DIR, XDG_CONFIG_HOME nor HOME is set")]
    NoPlace,
    /// It cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file, escaped.
        path: String,
        /// Why.
        cause: Cause,
    },
    /// It cannot be written.
    #[error("cannot write {path}: {cause}")]
    Write {
        /// The file, escaped.
        path: String,
        /// Why.
        cause: io::Error,
    },
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its content is no text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// It is no login file.
    #[error("it is larger than 64 KiB")]
    TooLarge,
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::NoPlace => Self::new(Kind::Login, error)
                .hint("set CODER_CONFIG_DIR, or CODER_URL and CODER_SESSION_TOKEN"),
            ConfigError::Read { .. } => Self::new(Kind::Login, error)
                .hint("repair or remove it and run `coderctl login`, or set CODER_URL and CODER_SESSION_TOKEN"),
            ConfigError::Write { .. } => Self::new(Kind::Other, error).hint(
                "choose another directory with --global-config, or set CODER_URL and \
                 CODER_SESSION_TOKEN instead of logging in",
            ),
        }
    }
}

impl Config {
    /// The directory that was asked for, else the usual one. An empty name means the usual one.
    #[must_use]
    pub fn locate(asked: Option<&Path>) -> Self {
        let asked = asked.filter(|path| !path.as_os_str().is_empty());
        Self { directory: asked.map(Path::to_owned).or_else(usual) }
    }

    /// The trimmed content of a file; `None` where there is none, or nothing in it.
    ///
    /// # Errors
    /// It is there but cannot be read, or is no text.
    pub fn read(&self, file: File) -> Result<Option<Zeroizing<String>>, ConfigError> {
        let Some(directory) = &self.directory else { return Ok(None) };
        let path = directory.join(file.name());
        match read(&path) {
            Ok(content) => {
                Ok(Some(content.trim()).filter(|c| !c.is_empty()).map(|c| c.to_owned().into()))
            }
            Err(Cause::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(ConfigError::Read { path: shown(&path), cause }),
        }
    }

    /// Stores a login. However it ends, no token is left beside another deployment's URL.
    ///
    /// # Errors
    /// The directory or a file cannot be written.
    pub fn store(&self, url: &str, token: &str) -> Result<(), ConfigError> {
        if self.read(File::Url).ok().flatten().is_none_or(|stored| stored.as_str() != url) {
            self.remove(File::Session)?;
        }
        self.write(File::Url, url)?;
        self.write(File::Session, token)
    }

    /// Removes the stored login.
    ///
    /// # Errors
    /// A file is there and cannot be removed; the token is the first to go.
    pub fn clear(&self) -> Result<(), ConfigError> {
        self.remove(File::Session)?;
        self.remove(File::Url)
    }

    fn remove(&self, file: File) -> Result<(), ConfigError> {
        let directory = self.directory.as_ref().ok_or(ConfigError::NoPlace)?;
        let path = directory.join(file.name());
        match fs::remove_file(&path) {
            Err(cause) if !is_absent(&cause) => {
                Err(ConfigError::Write { path: shown(&path), cause })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn write(&self, file: File, content: &str) -> Result<(), ConfigError> {
        let directory = self.directory.as_ref().ok_or(ConfigError::NoPlace)?;
        let path = directory.join(file.name());
        write(directory, &path, content)
            .map_err(|cause| ConfigError::Write { path: shown(&path), cause })
    }

    /// The directory, for messages.
    #[must_use]
    pub fn directory(&self) -> String {
        self.directory.as_deref().map(shown).unwrap_or_default()
    }
}

/// Neither the file nor, perhaps, the directory is there; writing will tell.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn usual() -> Option<PathBuf> {
    let home = || env::home_dir().filter(|home| home.is_absolute());
    let root = if cfg!(target_os = "macos") {
        home()?.join("Library/Application Support")
    } else {
        // A relative path is invalid (XDG Base Directory Specification).
        let xdg = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        match xdg.filter(|path| path.is_absolute()) {
            Some(path) => path,
            None => home()?.join(".config"),
        }
    };
    Some(root.join("coderv2"))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Cause> {
    let mut content = Zeroizing::new(Vec::new());
    fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(Cause::TooLarge);
    }
    let text = std::str::from_utf8(&content).map_err(|_| Cause::NotText)?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn write(directory: &Path, path: &Path, content: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    whole::keep(path, content.as_bytes(), Access::Private)
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy()).into_owned()
}

/// What `CODERCTL_DIAL_TIMEOUT` (seconds, fractions allowed) says instead of the limits of each
/// step of a connection: for tests and odd networks. Nonsense counts as nothing.
#[must_use]
pub fn dial_timeout() -> Option<std::time::Duration> {
    let seconds = env::var("CODERCTL_DIAL_TIMEOUT").ok()?.parse().ok()?;
    std::time::Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_private() {
        let home = tempfile::tempdir().unwrap();
        let config = Config::locate(Some(&home.path().join("a/b")));
        assert_eq!(config.read(File::Session).unwrap(), None);
        config.store("https://x", "first").unwrap();
        config.store("https://x", "  second\n").unwrap();
        assert_eq!(config.read(File::Session).unwrap().unwrap().as_str(), "second");
        let mode = |path: &str| home.path().join(path).metadata().unwrap().permissions().mode();
        assert_eq!(mode("a/b") & 0o7777 & !0o750, 0);
        assert_eq!(mode("a/b/session") & 0o7777, 0o600);
        assert_eq!(fs::read_dir(home.path().join("a/b")).unwrap().count(), 2);
    }

    #[test]
    fn a_store_that_fails_leaves_no_token_beside_another_url() {
        let home = tempfile::tempdir().unwrap();
        let config = Config::locate(Some(home.path()));
        config.store("https://x", "token of x").unwrap();
        fs::remove_file(home.path().join("url")).unwrap();
        fs::create_dir(home.path().join("url")).unwrap();
        config.store("https://y", "token of y").unwrap_err();
        assert!(!home.path().join("session").exists());
    }

    #[test]
    fn odd_files_are_named_with_what_is_odd_about_them() {
        let home = tempfile::tempdir().unwrap();
        let config = Config::locate(Some(home.path()));
        fs::create_dir(home.path().join("url")).unwrap();
        fs::write(home.path().join("session"), b"\xff\xfe").unwrap();
        let url = CommandError::from(config.read(File::Url).unwrap_err());
        let session = CommandError::from(config.read(File::Session).unwrap_err());
        assert!(url.to_string().contains("/url: Is a directory"), "{url}");
        assert!(session.to_string().ends_with("/session: it is not UTF-8 text"), "{session}");
        assert_eq!((url.kind.code(), session.kind.code()), (200, 200));
        fs::write(home.path().join("session"), "x".repeat(70_000)).unwrap();
        let large = config.read(File::Session).unwrap_err();
        assert!(large.to_string().ends_with("larger than 64 KiB"), "{large}");
    }

    #[test]
    fn a_file_that_others_may_read_works() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("url");
        fs::write(&path, "https://x\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let url = Config::locate(Some(home.path())).read(File::Url).unwrap().unwrap();
        assert_eq!(url.as_str(), "https://x");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        let config = Config::locate(Some(&home.path().join("file/under")));
        let error = CommandError::from(config.store("x", "y").unwrap_err());
        assert!(error.to_string().contains("cannot write"), "{error}");
        assert!(!error.hints.is_empty());
    }
}
