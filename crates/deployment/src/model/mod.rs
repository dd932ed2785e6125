//! Users, workspaces, builds, agents: the rows, as the store keeps them and all rooms use them.
//!
//! Words that travel on the wire or lie in the database are enums with exactly Coder's text
//! (`codersdk/*.go`); reading an unknown word is an error value, never a panic.

mod agents;
mod builds;
mod claims;
mod hex;
mod jobs;
mod keys;
mod templates;
mod time;
mod users;
mod workspaces;

pub use self::{
    agents::*,
    builds::*,
    claims::*,
    hex::{hex, unhex},
    jobs::*,
    keys::*,
    templates::*,
    time::Timestamp,
    users::*,
    workspaces::*,
};

/// A word that is none of an enum's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}; one of: {known}")]
pub struct UnknownWord {
    /// What it should have been, for people.
    pub what: &'static str,
    /// What was read.
    pub text: String,
    /// The words that are known, separated by commas.
    pub known: String,
}

/// An enum of words: `as_str`, `parse`, `ALL`, `Display`, serde as text.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($what:literal) {
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $( $(#[$variant_meta])* #[serde(rename = $text)] $variant, )+
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }

            /// Reads the word, exactly.
            ///
            /// # Errors
            ///
            /// The word is none of these.
            pub fn parse(text: &str) -> Result<Self, $crate::model::UnknownWord> {
                match text {
                    $( $text => Ok(Self::$variant), )+
                    other => Err($crate::model::UnknownWord {
                        what: $what,
                        text: other.to_owned(),
                        known: [ $( $text, )+ ].join(", "),
                    }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;
