//! What a deployment is started with.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use url::Url;

use crate::decide::agents::CONNECTION_UPDATE_INTERVAL;
pub use crate::http::serve::Limits;

/// How often an agent reports statistics in a default deployment
/// (coder/coder: codersdk/deployment.go `AgentStatRefreshInterval`).
const STATS_INTERVAL: Duration = Duration::from_secs(30);

/// Builds at a time: upstream's default of provisioner daemons is 3
/// (coder/coder: codersdk/deployment.go `ProvisionerDaemons`); ours wait more than they work.
const BUILDS: usize = 16;

/// Where the deployment's state lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// SQLite in memory: gone with the process.
    Memory,
    /// SQLite in a file of this directory.
    Directory(PathBuf),
    /// A PostgreSQL that several processes may share. Its URL holds a password.
    Postgres(Secret),
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A certificate and its key, as files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and those that lead to a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What a deployment is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate to listen with; none for plain HTTP.
    pub tls: Option<Tls>,
    /// Whether plain HTTP on other than loopback addresses is wanted all the same.
    pub insecure: bool,
    /// The URL by which clients and agents reach it; by default it follows from the listener.
    pub access_url: Option<Url>,
    /// The URL by which other processes on its PostgreSQL reach it; by default that of the
    /// listener. Each has its own, where clients may have one URL for all.
    pub relay_url: Option<Url>,
    /// How much clients may ask for.
    pub limits: Limits,
    /// Where its state lives.
    pub storage: Storage,
    /// The directory that holds the workspaces' directories. Processes that share a state share
    /// it, too.
    pub workspaces: PathBuf,
    /// What becomes of the workspaces' agents.
    pub agents: AgentMode,
    /// Ports of the tunnel that agents in this process serve themselves.
    pub services: coderctl_agent::Services,
    /// How often a connected agent is looked after: its row updated, its build checked.
    pub agent_update_interval: Duration,
    /// How often an agent reports statistics.
    pub stats_interval: Duration,
    /// Builds that run at a time in this process.
    pub builds: usize,
    /// Where faults can be asked for; not at all by default. The path of a Unix socket to be made.
    pub fault_socket: Option<PathBuf>,
}

/// What becomes of the agents of workspaces that are started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AgentMode {
    /// They run in this process.
    #[default]
    InProcess,
    /// Each is a process of its own: this executable, which is given `agent` as its argument.
    Process(PathBuf),
    /// Somebody starts them by hand.
    ByHand,
}

/// What a deployment cannot be started with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It would be reachable from other machines without encryption.
    #[error(
        "{0} can be reached from other machines, and tokens would travel there unencrypted: give \
         a certificate with --tls-cert-file and --tls-key-file, listen on 127.0.0.1, or say \
         --insecure if the network is trusted"
    )]
    Unencrypted(SocketAddr),
    /// The URL is none by which it could be reached.
    #[error("the {what} {url} {why}: it must look like https://coder.example.com, without a path")]
    Url {
        /// Whose it is.
        what: &'static str,
        /// Which, without a password.
        url: String,
        /// Why.
        why: &'static str,
    },
    /// Certificate and key cannot be used.
    #[error("the certificate {certificate} and its key {key} cannot be used: {why}")]
    Tls {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// Why.
        why: String,
    },
}

impl Config {
    /// A deployment on a free port of 127.0.0.1, by plain HTTP.
    #[must_use]
    pub fn new(storage: Storage, workspaces: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            insecure: false,
            access_url: None,
            relay_url: None,
            limits: Limits::default(),
            storage,
            workspaces: workspaces.into(),
            agents: AgentMode::default(),
            services: coderctl_agent::Services::default(),
            agent_update_interval: CONNECTION_UPDATE_INTERVAL,
            stats_interval: STATS_INTERVAL,
            builds: BUILDS,
            fault_socket: None,
        }
    }

    /// Whether it is safe and makes sense, as far as that can be told without opening anything.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !is_loopback(self.listen.ip()) && self.tls.is_none() && !self.insecure {
            return Err(ConfigError::Unencrypted(self.listen));
        }
        let urls = [("access URL", &self.access_url), ("relay URL", &self.relay_url)];
        let mut given = urls.into_iter().filter_map(|(what, url)| Some((what, url.as_ref()?)));
        given.try_for_each(|(what, url)| check_url(what, url))
    }

    /// The URL by which a deployment that listens on `address` is reached.
    ///
    /// # Errors
    /// When there is no URL of such an address.
    pub fn access_url_on(&self, address: SocketAddr) -> Result<Url, ConfigError> {
        match &self.access_url {
            Some(url) => Ok(url.clone()),
            None => self.own_url(address),
        }
    }

    /// The URL of a listener on `address`, from this machine.
    ///
    /// # Errors
    /// When there is no URL of such an address.
    pub fn own_url(&self, address: SocketAddr) -> Result<Url, ConfigError> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        // All addresses include this one.
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        let url = format!("{scheme}://{}/", SocketAddr::new(ip, address.port()));
        let what = "URL of the listener";
        Url::parse(&url).map_err(|_| ConfigError::Url { what, url, why: "cannot be read" })
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn check_url(what: &'static str, url: &Url) -> Result<(), ConfigError> {
    let why = if !matches!(url.scheme(), "http" | "https") {
        "is neither http nor https"
    } else if url.host_str().is_none_or(str::is_empty) {
        "has no host"
    } else if !url.username().is_empty() || url.password().is_some() {
        "holds a user name or password"
    } else if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        // Clients resolve absolute paths against it (`codersdk/client.go`).
        "has a path, which clients would drop"
    } else {
        return Ok(());
    };
    let mut url = url.clone();
    // A URL that cannot hold a password has none to be hidden.
    let _ = url.set_password(None);
    Err(ConfigError::Url { what, url: url.to_string(), why })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn config(listen: &str) -> Config {
        let listen = listen.parse().unwrap();
        Config { listen, ..Config::new(Storage::Memory, "/nowhere") }
    }

    #[test]
    fn only_loopback_is_served_without_encryption() {
        let tls = Some(Tls { certificate: "cert.pem".into(), key: "key.pem".into() });
        for loopback in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert_eq!(config(loopback).check(), Ok(()), "{loopback}");
        }
        for open in ["0.0.0.0:0", "[::]:80", "192.0.2.7:443", "[::ffff:192.0.2.7]:0"] {
            let plain = config(open);
            assert_eq!(plain.check(), Err(ConfigError::Unencrypted(open.parse().unwrap())));
            assert_eq!(Config { insecure: true, ..plain.clone() }.check(), Ok(()), "{open}");
            assert_eq!(Config { tls: tls.clone(), ..plain }.check(), Ok(()), "{open}");
        }
    }

    #[test]
    fn the_access_url_follows_from_the_listener() {
        for (listen, tls, url) in [
            ("127.0.0.1:8080", false, "http://127.0.0.1:8080/"),
            ("0.0.0.0:8080", false, "http://127.0.0.1:8080/"),
            ("[::]:443", true, "https://[::1]/"),
            ("192.0.2.7:8443", true, "https://192.0.2.7:8443/"),
        ] {
            let tls = tls.then(|| Tls { certificate: "cert.pem".into(), key: "key.pem".into() });
            let config = Config { tls, ..config(listen) };
            assert_eq!(config.access_url_on(config.listen).unwrap().as_str(), url);
        }
    }

    #[test]
    fn an_access_url_that_clients_could_not_use_is_refused() {
        for (url, why) in [
            ("ftp://coder.example.com", "is neither http nor https"),
            ("https://me:secret@coder.example.com", "holds a user name or password"),
            ("https://coder.example.com/coder", "has a path, which clients would drop"),
            ("https://coder.example.com/?x", "has a path, which clients would drop"),
        ] {
            let url = Some(Url::parse(url).unwrap());
            let access = Config { access_url: url.clone(), ..config("127.0.0.1:0") };
            let relay = Config { relay_url: url, ..config("127.0.0.1:0") };
            for (config, what) in [(access, "the access URL "), (relay, "the relay URL ")] {
                let text = config.check().unwrap_err().to_string();
                assert!(text.starts_with(what) && text.contains(why), "{text}");
                assert!(!text.contains("secret"), "{text}");
            }
        }
        let access_url = Some(Url::parse("https://coder.example.com").unwrap());
        let config = Config { access_url, ..config("127.0.0.1:0") };
        assert_eq!(config.check(), Ok(()));
        let url = config.access_url_on(config.listen).unwrap();
        assert_eq!(url.as_str(), "https://coder.example.com/");
    }
}
