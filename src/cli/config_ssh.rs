use std::{
    fs, io,
    io::Read,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{
    Environment, Session,
    global::{self, Headers},
    session::shown,
    ssh::WaitArg,
    write_data,
};
use crate::{
    error::{CommandError, Kind},
    ui::{escape, quoted},
    whole::{self, Access},
};

mod entry;
mod include;

use entry::Entry;

const EXAMPLES: &str = "Examples:
  coderctl config-ssh --dry-run
  coderctl config-ssh -o ServerAliveInterval=15 && ssh dev.coderctl
  coderctl config-ssh --remove";

/// Let OpenSSH reach all workspaces, as WORKSPACE.coderctl
///
/// It writes a file of its own, coderctl/config beside OpenSSH's configuration, and one line at the
/// top of that which includes it; everything else there stays as it is. ssh, scp, rsync, git and
/// editors find every workspace then, by all of its names: dev.coderctl, main.dev.bob.coderctl.
///
/// The agents' host keys are pinned at the first connection, in coderctl/known_hosts. Agents from
/// before 2025 have a new one at each start: -o StrictHostKeyChecking=no is for those.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// OpenSSH's configuration, ~/.ssh/config unless given
    #[arg(long, env = "CODER_SSH_CONFIG_FILE", value_name = "FILE")]
    ssh_config_file: Option<PathBuf>,

    /// Program that OpenSSH runs, this one unless given
    #[arg(long, env = "CODER_SSH_CONFIG_BINARY_PATH", value_name = "FILE")]
    coder_binary_path: Option<PathBuf>,

    /// Option of OpenSSH's for all workspaces, as `Name=Value`; an empty value drops one that would
    /// be there; repeatable [env: CODER_SSH_CONFIG_OPTS]
    #[arg(short = 'o', long, value_name = "OPTION")]
    ssh_option: Vec<String>,

    /// What is behind a workspace's name, without its dot
    #[arg(
        long,
        env = "CODER_CONFIGSSH_HOSTNAME_SUFFIX",
        value_name = "SUFFIX",
        default_value = "coderctl"
    )]
    hostname_suffix: String,

    /// Whether connections wait for the workspace's start scripts
    #[arg(
        long,
        env = "CODER_CONFIGSSH_WAIT",
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    wait: WaitArg,

    /// Connections do not start a stopped workspace
    #[arg(long, env = "CODER_CONFIGSSH_DISABLE_AUTOSTART")]
    disable_autostart: bool,

    /// Show what would change, and change nothing
    #[arg(short = 'n', long, env = "CODER_SSH_DRY_RUN")]
    dry_run: bool,

    /// Undo it
    #[arg(long)]
    remove: bool,

    /// Accepted; nothing is asked
    #[arg(short, long, hide_short_help = true)]
    yes: bool,

    #[command(flatten)]
    pub(super) headers: Headers,
}

/// Largest configuration that is edited, in bytes.
const LARGEST: u64 = 4 << 20;

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let ui = &environment.ui;
    let place = Place::find(args.ssh_config_file.as_deref())?;
    let line = include::line(place.own_text()?);
    let before = read(&place.config)?.unwrap_or_default();
    let own_before = read(&place.own)?;
    let (after, own_after) = if args.remove {
        (include::without(&before, &line), None)
    } else {
        let own = entry(&args, environment, &place).await?;
        (include::with(&before, &line), Some(own.into_bytes()))
    };
    let changes = [
        (&place.own, own_before.clone().unwrap_or_default(), own_after.clone().unwrap_or_default()),
        (&place.config, before.clone(), after.clone()),
    ];
    let changed = before != after || own_before != own_after;
    if args.dry_run {
        let text: String =
            changes.iter().map(|(path, before, after)| diff(path, before, after)).collect();
        write_data(ui, &text)?;
    }
    if !changed {
        ui.line("No changes to make");
        return Ok(0);
    }
    if args.dry_run {
        return Ok(0);
    }
    // What is included is there before it is included, and goes after that.
    match own_after {
        Some(own) => {
            place.write_own(&own)?;
            place.write_config(&after)?;
            ui.line(format_args!("Updated {}", quoted(&place.config.to_string_lossy())));
            ui.hint(format_args!("try: ssh WORKSPACE.{}", args.hostname_suffix));
        }
        None => {
            place.write_config(&after)?;
            place.remove_own()?;
            ui.line(format_args!("Removed from {}", quoted(&place.config.to_string_lossy())));
        }
    }
    Ok(0)
}

/// The text of our own file.
async fn entry(
    args: &Args,
    environment: &Environment,
    place: &Place,
) -> Result<String, CommandError> {
    let usage = |why: String| CommandError::msg(Kind::Usage, why);
    let suffix = args.hostname_suffix.trim_start_matches('.');
    if !entry::is_suffix(suffix) {
        let why = format!("{} cannot stand behind a host's name", quoted(suffix));
        return Err(usage(why).hint("letters, digits and dashes, e.g. --hostname-suffix coder"));
    }
    let given = global::list("CODER_SSH_CONFIG_OPTS", &args.ssh_option)?;
    let mut options: Vec<_> =
        given.iter().map(|text| entry::option(text)).collect::<Result<_, _>>().map_err(usage)?;
    let session = Session::open(environment).await?;
    for (name, value) in session.api().ssh_options().await? {
        match entry::may_ask(&name) {
            true => options.push((name, value)),
            false => environment.ui.warn(format_args!(
                "the deployment asks for OpenSSH's option {}, which is for nobody but you to set",
                quoted(&name)
            )),
        }
    }
    let entry = Entry {
        url: shown(session.url()),
        suffix,
        proxy: &proxy(args, environment)?,
        known_hosts: &place.directory.join("known_hosts"),
        options: &options,
    };
    entry.text().map_err(usage)
}

/// The program, and the global flags that it needs to be who it is now. A token is never among
/// them: the stored login is read anew each time.
fn proxy(args: &Args, environment: &Environment) -> Result<Vec<String>, CommandError> {
    let program = match &args.coder_binary_path {
        Some(path) if path.is_absolute() => path.clone(),
        Some(path) => {
            let why = format!("{} is not absolute", quoted(&path.to_string_lossy()));
            return Err(CommandError::msg(Kind::Usage, why));
        }
        None => std::env::current_exe().map_err(|error| CommandError::new(Kind::Other, error))?,
    };
    let global = &environment.global;
    let path = |path: &Path| path.to_str().map(str::to_owned);
    let mut words = vec![path(&program)];
    for (flag, file) in [
        ("--global-config", &global.global_config),
        ("--client-tls-ca-file", &global.client_tls_ca_file),
        ("--client-tls-cert-file", &global.client_tls_cert_file),
        ("--client-tls-key-file", &global.client_tls_key_file),
    ] {
        if let Some(file) = file.as_deref().filter(|file| !file.as_os_str().is_empty()) {
            let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
            words.extend([Some(flag.to_owned()), path(&absolute)]);
        }
    }
    let mut flag = |name: &str, value: String| words.extend([Some(name.to_owned()), Some(value)]);
    for header in &environment.headers {
        flag("--header", header.clone());
    }
    if let Some(command) = global.header_command.clone().filter(|command| !command.is_empty()) {
        flag("--header-command", command);
    }
    words.push(Some("ssh".to_owned()));
    match args.wait {
        WaitArg::Auto => {}
        WaitArg::Yes => words.push(Some("--wait=yes".to_owned())),
        WaitArg::No => words.push(Some("--wait=no".to_owned())),
    }
    if args.disable_autostart {
        words.push(Some("--disable-autostart".to_owned()));
    }
    let words: Option<Vec<String>> = words.into_iter().collect();
    words.ok_or_else(|| {
        let why = "a path of the command that OpenSSH is to run is not UTF-8";
        CommandError::msg(Kind::Usage, why)
    })
}

/// Where things are.
struct Place {
    /// OpenSSH's configuration.
    config: PathBuf,
    /// Our own directory beside it.
    directory: PathBuf,
    /// Our own file there.
    own: PathBuf,
}

impl Place {
    fn find(asked: Option<&Path>) -> Result<Self, CommandError> {
        let no_home = || {
            CommandError::msg(Kind::Other, "HOME is not set, so there is no ~/.ssh/config")
                .hint("name the file with --ssh-config-file")
        };
        let home = || std::env::home_dir().filter(|home| home.is_absolute()).ok_or_else(no_home);
        let config = match asked.filter(|path| !path.as_os_str().is_empty()) {
            None => home()?.join(".ssh/config"),
            Some(path) => match path.strip_prefix("~") {
                Ok(below) => home()?.join(below),
                Err(_) => std::path::absolute(path)
                    .map_err(|error| CommandError::new(Kind::Other, error))?,
            },
        };
        let directory = config.with_file_name("coderctl");
        Ok(Self { own: directory.join("config"), config, directory })
    }

    /// Our own file as OpenSSH's configuration names it.
    fn own_text(&self) -> Result<&str, CommandError> {
        // There it is a pattern, in which some characters mean more.
        let odd = |c: char| c.is_control() || "\"*?[]\\".contains(c);
        self.own.to_str().filter(|text| !text.contains(odd)).ok_or_else(|| {
            let name = quoted(&self.own.to_string_lossy());
            CommandError::msg(Kind::Usage, format!("OpenSSH has no way to include {name}"))
        })
    }

    fn write_own(&self, content: &[u8]) -> Result<(), CommandError> {
        make_private(&self.directory).map_err(|error| cannot("write", &self.directory, error))?;
        whole::keep(&self.own, content, Access::Private)
            .map_err(|error| cannot("write", &self.own, error))
    }

    /// A configuration that is a link stays one: what it leads to is replaced.
    fn write_config(&self, content: &[u8]) -> Result<(), CommandError> {
        let written = (|| {
            let path = match fs::canonicalize(&self.config) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.config.clone(),
                found => found?,
            };
            if let Some(above) = path.parent() {
                make_private(above)?;
            }
            let access = match fs::metadata(&path) {
                Ok(found) => Access::Exactly(found.permissions().mode()),
                Err(_) => Access::Private,
            };
            whole::keep(&path, content, access)
        })();
        written.map_err(|error| cannot("write", &self.config, error))
    }

    /// Host keys go, too: they are of no use without the entry.
    fn remove_own(&self) -> Result<(), CommandError> {
        for path in [self.own.clone(), self.directory.join("known_hosts")] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(cannot("remove", &path, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        // Somebody may keep more there.
        let _ = fs::remove_dir(&self.directory);
        Ok(())
    }
}

fn make_private(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn cannot(what: &str, path: &Path, error: io::Error) -> CommandError {
    let what = format!("cannot {what} {}", quoted(&path.to_string_lossy()));
    CommandError::new(Kind::Local, anyhow::Error::new(error).context(what))
}

/// What is in a file; `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, CommandError> {
    let mut content = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content));
    match read {
        Ok(length) if length as u64 > LARGEST => {
            let why = io::Error::other("it is larger than 4 MiB");
            Err(cannot("edit", path, why))
        }
        Ok(_) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("read", path, error)),
    }
}

/// The lines that change, as people know them from `diff`.
fn diff(path: &Path, before: &[u8], after: &[u8]) -> String {
    if before == after {
        return String::new();
    }
    let lines = |text: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(text);
        text.lines().map(|line| escape(line).into_owned()).collect()
    };
    let (before, after) = (lines(before), lines(after));
    let same = before.iter().zip(&after).take_while(|(one, other)| one == other).count();
    let (old, new) = (&before[same..], &after[same..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(one, other)| one == other);
    let tail = tail.count();
    let mut text = format!("--- {0}\n+++ {0}\n", escape(&path.to_string_lossy()));
    for (sign, lines) in [('-', &old[..old.len() - tail]), ('+', &new[..new.len() - tail])] {
        text.extend(lines.iter().map(|line| format!("{sign}{line}\n")));
    }
    text
}
