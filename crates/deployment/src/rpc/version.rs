//! Which version of the Agent API a session speaks (coder/coder: apiversion/apiversion.go).

use crate::http::error::ApiError;

/// The version that is spoken when none is asked for.
const DEFAULT: &str = "2.0";

/// Takes every `2.x`: a newer agent's additional calls are answered as unimplemented, one by one,
/// instead of the whole agent being turned away (as upstream does).
///
/// # Errors
/// 400 for anything else.
pub(crate) fn accept(asked: Option<&str>) -> Result<String, ApiError> {
    let asked = asked.unwrap_or(DEFAULT);
    let number = |text: &str| {
        (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let why = match asked.split_once('.') {
        Some(("2", minor)) if number(minor) => return Ok(asked.to_owned()),
        Some((major, minor)) if number(major) && number(minor) => {
            format!("server is at version 2.x, which is not compatible with {major}.{minor}")
        }
        Some(_) | None => "must be of the form <major>.<minor>".to_owned(),
    };
    Err(ApiError::bad_request("Unknown or unsupported API version").field("version", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_minor_of_two_is_accepted() {
        for (asked, wanted) in [
            (None, Some("2.0")),
            (Some("2.0"), Some("2.0")),
            (Some("2.10"), Some("2.10")),
            (Some("2.99"), Some("2.99")),
            (Some("1.0"), None),
            (Some("3.0"), None),
            (Some("2"), None),
            (Some("2."), None),
            (Some("2.x"), None),
            (Some("2.0.0"), None),
            (Some("2.-1"), None),
            (Some("2.999999"), None),
        ] {
            let got = accept(asked);
            assert_eq!(got.as_deref().ok(), wanted, "{asked:?}");
            if let Err(error) = got {
                assert_eq!(error.body.validations[0].field, "version", "{asked:?}");
                assert_eq!(error.status, 400, "{asked:?}");
            }
        }
    }
}
