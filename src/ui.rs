//! Who may speak: stdout is data, everything said goes through [`Ui`] to stderr.

/// The way to the user. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ui {}
