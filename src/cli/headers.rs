//! Extra headers for every request: those that were given, and those that a command prints.

use std::{process::Stdio, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{io::AsyncReadExt, process::Command};
use url::Url;

use crate::error::{CommandError, Kind};

/// Most that a header command may print, in bytes: servers take 8 to 64 KiB of headers in all.
const MOST: u64 = 64 * 1024;

/// How long a header command may run: it may ask a person or a device, but not hang for ever.
const LONGEST: Duration = Duration::from_secs(60);

/// All extra headers. Equal names add up.
pub(super) async fn all(
    given: &[String],
    command: Option<&str>,
    url: &Url,
) -> Result<HeaderMap, CommandError> {
    let mut headers = HeaderMap::new();
    for line in given {
        let (name, value) = parse(line).map_err(|why| {
            CommandError::msg(Kind::Usage, format!("a header of --header or CODER_HEADER: {why}"))
                .hint("write --header NAME=VALUE")
        })?;
        headers.append(name, value);
    }
    if let Some(command) = command.filter(|command| !command.is_empty()) {
        let printed = run(command, url).await?;
        for line in printed.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let (name, value) = parse(line).map_err(|why| failed(&format!("it printed {why}")))?;
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// What is wrong is said without the line itself, which may hold a secret.
fn parse(line: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = line.split_once('=').ok_or("a line without `=`")?;
    let name = name.trim().parse().map_err(|_| "a name that no header can have")?;
    let mut value: HeaderValue = value.parse().map_err(|_| "a value that no header can have")?;
    value.set_sensitive(true);
    Ok((name, value))
}

async fn run(command: &str, url: &Url) -> Result<String, CommandError> {
    let address = url.as_str().trim_end_matches('/');
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("CODER_URL", address)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error.to_string()))?;
    let stdout = child.stdout.take();
    let work = async {
        let mut printed = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MOST + 1).read_to_end(&mut printed).await?;
        }
        if printed.len() as u64 > MOST {
            return Ok((printed, None));
        }
        Ok::<_, std::io::Error>((printed, Some(child.wait().await?)))
    };
    let (printed, status) = tokio::time::timeout(LONGEST, work)
        .await
        .map_err(|_| failed("it did not end within 60 seconds"))?
        .map_err(|error| failed(&error.to_string()))?;
    match status {
        None => Err(failed("it printed more than 64 KiB")),
        Some(status) if !status.success() => Err(failed(&format!("it ended with {status}"))),
        Some(_) => String::from_utf8(printed).map_err(|_| failed("what it printed is not UTF-8")),
    }
}

fn failed(why: &str) -> CommandError {
    CommandError::msg(Kind::Other, format!("the header command failed: {why}"))
        .hint("run what --header-command or CODER_HEADER_COMMAND says by hand; it must print NAME=VALUE lines")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn headers(given: &[&str], command: Option<&str>) -> Result<HeaderMap, CommandError> {
        let given: Vec<_> = given.iter().map(|&line| line.to_owned()).collect();
        all(&given, command, &"https://x.example/".parse().unwrap()).await
    }

    #[tokio::test]
    async fn given_and_printed_headers_add_up() {
        let command = r#"printf 'X-A=2\r\n\nX-Url=%s\n' "$CODER_URL""#;
        let headers = headers(&["X-A=1", "X-B=a=b"], Some(command)).await.unwrap();
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(headers["x-b"], "a=b");
        assert_eq!(headers["x-url"], "https://x.example");
    }

    #[tokio::test]
    async fn what_cannot_be_a_header_is_refused_without_repeating_it() {
        for given in ["secret", "se cret=1", "X=secret\u{7}", "=secret"] {
            let error = headers(&[given], None).await.unwrap_err();
            assert_eq!(error.kind.code(), 2);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_ends_it() {
        for (command, why) in [
            ("exit 3", "exit status: 3"),
            ("echo nonsense", "without `=`"),
            ("printf '\\377'", "not UTF-8"),
            ("yes X=1", "more than 64 KiB"),
        ] {
            let error = headers(&[], Some(command)).await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
