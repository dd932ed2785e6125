//! What is decided, as pure tables: tokens, watch, reinitialisation, builds.
