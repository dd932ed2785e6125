//! Names of users, workspaces, templates and tokens.

use super::error::ApiError;

/// Longest name, in characters (`codersdk/name.go`).
const LONGEST: usize = 32;

/// Words that are paths of the dashboard, or have a meaning elsewhere.
const RESERVED: [&str; 3] = ["new", "create", "me"];

/// Whether a name is letters and digits, with single hyphens between them (`codersdk/name.go`).
/// That is what makes `--`, `.` and `/` safe to put between names.
///
/// # Errors
/// 400, naming the field.
pub(super) fn check(field: &str, name: &str) -> Result<(), ApiError> {
    let why = if name.is_empty() {
        "must not be empty"
    } else if name.chars().count() > LONGEST {
        "must be at most 32 characters long"
    } else if !name
        .split('-')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    {
        "must be letters and digits, with single hyphens between them"
    } else if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
        "is a word with another meaning"
    } else {
        return Ok(());
    };
    Err(ApiError::bad_request("Validation failed.").field(field, why))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "A1", "dev-1", "a-b-c", &"x".repeat(32)] {
            assert_eq!(check("name", name), Ok(()), "{name}");
        }
        let long = "x".repeat(33);
        for name in
            ["", &long, "-a", "a-", "a--b", "a.b", "a b", "a/b", "ä", "a\n", "new", "Create", "me"]
        {
            let error = check("name", name).unwrap_err();
            assert_eq!(error.body.validations[0].field, "name", "{name}");
        }
    }
}
