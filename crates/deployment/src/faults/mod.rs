//! Faults to inject, for tests.

/// The faults that were asked for.
#[derive(Clone, Debug)]
pub struct Faults {}
