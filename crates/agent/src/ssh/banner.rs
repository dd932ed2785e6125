//! What a login shell on a terminal is greeted with.

use std::path::Path;

use tokio::io::AsyncReadExt as _;

/// Longest message of the day that is shown, in bytes.
const MOTD: u64 = 1 << 20;

/// The announcement banners: each without the space around it, with an empty line after it.
pub(super) fn announcements(banners: &[String]) -> String {
    let texts = banners.iter().map(|banner| banner.trim()).filter(|banner| !banner.is_empty());
    texts.map(|banner| lines(banner) + "\r\n").collect()
}

/// The message of the day: of this file (where its name is relative, below the home directory), if
/// there is one, unless the user has asked for silence by `~/.hushlogin`.
pub(super) async fn message_of_the_day(file: &str, home: &Path) -> String {
    if file.is_empty() || tokio::fs::try_exists(home.join(".hushlogin")).await.unwrap_or(false) {
        return String::new();
    }
    match read(&home.join(file)).await {
        Ok(bytes) => lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => {
            tracing::debug!(%error, file, "no message of the day");
            String::new()
        }
    }
}

async fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tokio::fs::File::open(file).await?.take(MOTD).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Each line with the end that a terminal wants.
fn lines(text: &str) -> String {
    text.lines().map(|line| format!("{line}\r\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banners_have_an_empty_line_after_them() {
        let banners = ["\n one\ntwo \n".to_owned(), "  ".to_owned(), "three".to_owned()];
        assert_eq!(announcements(&banners), "one\r\ntwo\r\n\r\nthree\r\n\r\n");
        assert_eq!(announcements(&[]), "");
    }

    #[tokio::test]
    async fn the_message_of_the_day_is_silent_when_asked() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("motd");
        let name = file.to_str().unwrap();
        assert_eq!(message_of_the_day(name, home.path()).await, "");
        std::fs::write(&file, "Hello\r\nthere\n").unwrap();
        assert_eq!(message_of_the_day(name, home.path()).await, "Hello\r\nthere\r\n");
        assert_eq!(message_of_the_day("motd", home.path()).await, "Hello\r\nthere\r\n");
        assert_eq!(message_of_the_day("", home.path()).await, "");
        std::fs::write(home.path().join(".hushlogin"), "").unwrap();
        assert_eq!(message_of_the_day(name, home.path()).await, "");
    }
}
