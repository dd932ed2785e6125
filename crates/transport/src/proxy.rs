//! Which proxy for which host, as Go decides it from the environment
//! (golang.org/x/net: http/httpproxy).

use std::{env, fmt, net::IpAddr};

use url::Url;

use crate::Target;

/// The proxies of the environment.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Exception>,
}

/// One proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// User and password.
    pub(crate) login: Option<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    Https,
    /// The name is looked up by the proxy in either spelling, as Go does.
    Socks5,
}

/// A proxy setting that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{variable} is not the URL of an http, https or socks5 proxy")]
pub struct ProxyError {
    variable: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    Everything,
    Net(IpAddr, u8, Option<u16>),
    /// With a leading dot only subdomains match, else the name itself as well.
    Name {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// No proxy for anything.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` in upper or lower case.
    ///
    /// # Errors
    /// [`ProxyError`] names the variable that is no proxy URL; in Go it counts as absent.
    pub fn from_env() -> Result<Self, ProxyError> {
        Self::parse(|name| {
            let value = env::var(name).ok().or_else(|| env::var(name.to_ascii_lowercase()).ok());
            value.filter(|value| !value.is_empty())
        })
    }

    /// The same from any source of variables.
    ///
    /// # Errors
    /// [`ProxyError`] names the variable that is no proxy URL.
    pub fn parse(variable: impl Fn(&'static str) -> Option<String>) -> Result<Self, ProxyError> {
        let read = |name: &'static str| match variable(name) {
            Some(value) => Proxy::parse(&value).map(Some).ok_or(ProxyError { variable: name }),
            None => Ok(None),
        };
        let all = read("ALL_PROXY")?;
        Ok(Self {
            http: read("HTTP_PROXY")?.or_else(|| all.clone()),
            https: read("HTTPS_PROXY")?.or(all),
            direct: variable("NO_PROXY")
                .unwrap_or_default()
                .split([',', ' '])
                .filter_map(Exception::parse)
                .collect(),
        })
    }

    /// The proxy for `target`, if it is not reached directly.
    pub(crate) fn for_target(&self, target: &Target) -> Option<&Proxy> {
        let proxy = if target.tls { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = target.host.to_ascii_lowercase();
        let ip: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
            return None;
        }
        let direct = self.direct.iter().any(|one| one.matches(&host, ip, target.port));
        (!direct).then_some(proxy)
    }
}

impl Proxy {
    fn parse(value: &str) -> Option<Self> {
        let url = match Url::parse(value) {
            Ok(url) if url.has_host() => url,
            Ok(_) | Err(_) => Url::parse(&format!("http://{value}")).ok()?,
        };
        let (kind, port) = match url.scheme() {
            "http" => (Kind::Http, 80),
            "https" => (Kind::Https, 443),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            _ => return None,
        };
        let decode = |text: &str| percent_decode(text);
        let login = (!url.username().is_empty())
            .then(|| (decode(url.username()), decode(url.password().unwrap_or_default())));
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { kind, host, port: url.port().unwrap_or(port), login })
    }

    /// `name:port`, for messages.
    pub(crate) fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name())
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http)
            .field("https", &self.https)
            .field("direct", &self.direct)
            .finish()
    }
}

impl Exception {
    fn parse(word: &str) -> Option<Self> {
        let word = word.trim().to_ascii_lowercase();
        if word.is_empty() {
            return None;
        }
        if word == "*" {
            return Some(Self::Everything);
        }
        if let Some((net, bits)) = word.split_once('/') {
            return Some(Self::Net(net.parse().ok()?, bits.parse().ok()?, None));
        }
        let (name, port) = match word.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
                (name.to_owned(), port.parse().ok())
            }
            Some(_) | None => (word.clone(), None),
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            return Some(Self::Net(ip, bits, port));
        }
        let name = name.strip_prefix('*').unwrap_or(&name).to_owned();
        let itself = !name.starts_with('.');
        let suffix = if itself { format!(".{name}") } else { name };
        Some(Self::Name { suffix, itself, port })
    }

    fn matches(&self, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Net(net, bits, wanted) => {
                wanted.is_none_or(|wanted| wanted == port)
                    && ip.is_some_and(|ip| within(ip, *net, *bits))
            }
            Self::Name { suffix, itself, port: wanted } => {
                let named = host.ends_with(suffix.as_str()) || (*itself && host == &suffix[1..]);
                named && wanted.is_none_or(|wanted| wanted == port)
            }
        }
    }
}

fn within(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => {
            let shift = 32_u32.saturating_sub(u32::from(bits));
            shift >= 32 || (u32::from(ip) >> shift) == (u32::from(net) >> shift)
        }
        (IpAddr::V6(ip), IpAddr::V6(net)) => {
            let shift = 128_u32.saturating_sub(u32::from(bits));
            shift >= 128 || (u128::from(ip) >> shift) == (u128::from(net) >> shift)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Undoes `%41`; what is no escape stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).and_then(|hex| {
            let hex = std::str::from_utf8(hex).ok()?;
            // from_str_radix would take a sign.
            hex.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
            u8::from_str_radix(hex, 16).ok()
        });
        match (bytes[at], escape) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, no_proxy: &str) -> bool {
        let proxies = Proxies::parse(|name| match name {
            "HTTP_PROXY" => Some("http://proxy:3128".to_owned()),
            "HTTPS_PROXY" => Some("socks5h://u:p%40ss@[::1]:9".to_owned()),
            "NO_PROXY" => Some(no_proxy.to_owned()),
            _ => None,
        });
        let target = Target::of(&url.parse().unwrap()).unwrap();
        proxies.unwrap().for_target(&target).is_some()
    }

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        let rows = [
            ("http://a.example", "", true),
            ("http://localhost:8080", "", false),
            ("http://127.0.0.2", "", false),
            ("https://[::1]:7", "", false),
            ("http://a.example", "*", false),
            ("http://example.com", "example.com", false),
            ("http://a.example.com", "example.com", false),
            ("http://badexample.com", "example.com", true),
            ("http://example.com", ".example.com", true),
            ("http://a.example.com", "*.example.com", false),
            ("http://a.example:81", "a.example:81", false),
            ("http://a.example:82", "a.example:81", true),
            ("http://10.1.2.3", "10.0.0.0/8", false),
            ("http://11.1.2.3", "10.0.0.0/8, 11.1.2.3", false),
            ("https://[fd00::1]", "fd00::/16", false),
        ];
        for (url, no_proxy, expected) in rows {
            assert_eq!(chosen(url, no_proxy), expected, "{url} with NO_PROXY={no_proxy:?}");
        }
    }

    #[test]
    fn a_proxy_hides_its_password_and_reads_it_decoded() {
        let proxy = Proxy::parse("socks5h://u:p%40ss@[::1]:9").unwrap();
        assert_eq!(format!("{proxy:?}"), "Socks5 [::1]:9");
        assert_eq!(proxy.login, Some(("u".to_owned(), "p@ss".to_owned())));
        assert_eq!(Proxy::parse("proxy:3128").unwrap().port, 3128);
        assert!(Proxy::parse("ftp://proxy").is_none());
    }
}
