//! Names of workspaces that nobody has asked for yet.

use uuid::Uuid;

/// A name for a prebuilt workspace: `prebuilt-` and 48 random bits. Unique enough among a
/// hundred; a clash is refused by the store and tried again.
pub(super) fn prebuilt() -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("prebuilt-{}", &random[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_workspaces() {
        let name = prebuilt();
        // coder/coder: codersdk/name.go, 32 characters at most.
        assert!(name.len() <= 32, "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{name}");
        assert_ne!(name, prebuilt());
    }
}
