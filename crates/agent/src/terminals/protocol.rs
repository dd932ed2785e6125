//! What a client of a reconnecting terminal says (`codersdk/workspacesdk/agentconn.go`).

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Longest single message of a client, in bytes: something that is pasted.
pub(super) const MAX_MESSAGE: usize = 1 << 20;

/// How a client begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Init {
    /// The same names the same terminal.
    pub(super) id: Uuid,
    pub(super) height: u16,
    pub(super) width: u16,
    /// Empty for a login shell.
    pub(super) command: String,
    /// Empty for none.
    pub(super) container: String,
    /// Empty for the container's own.
    pub(super) user: String,
}

impl Init {
    /// Reads it. Go does not mind the case of keys.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let keys: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let find = |name: &str| {
            keys.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let text = |name| find(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name| {
            find(name).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok()).unwrap_or(0)
        };
        let id = text("ID");
        Ok(Self {
            id: id.parse().map_err(|_| format!("the terminal's ID {id:?} is none"))?,
            height: number("Height"),
            width: number("Width"),
            command: text("Command"),
            container: text("Container"),
            user: text("ContainerUser"),
        })
    }
}

/// What a client says then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    pub(super) data: String,
    pub(super) height: u16,
    pub(super) width: u16,
}

/// Takes bytes as they come and gives messages, with or without white space between them.
#[derive(Debug, Default)]
pub(super) struct Messages {
    begun: Vec<u8>,
}

impl Messages {
    pub(super) fn push(&mut self, data: &[u8]) -> Result<Vec<Message>, String> {
        self.begun.extend_from_slice(data);
        let mut stream = serde_json::Deserializer::from_slice(&self.begun).into_iter::<Message>();
        let (mut messages, mut used) = (Vec::new(), 0);
        while let Some(message) = stream.next() {
            match message {
                Ok(message) => messages.push(message),
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(error.to_string()),
            }
            used = stream.byte_offset();
        }
        self.begun.drain(..used);
        if self.begun.len() > MAX_MESSAGE {
            return Err(format!("a message is longer than {MAX_MESSAGE} bytes"));
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_beginning() {
        let id = Uuid::from_u128(7);
        let text =
            format!(r#"{{"ID":"{id}","Height":24,"Width":80,"Command":"ls","BackendType":""}}"#);
        let init = Init::parse(text.as_bytes()).unwrap();
        let command = "ls".to_owned();
        assert_eq!(
            init,
            Init {
                id,
                height: 24,
                width: 80,
                command,
                container: String::new(),
                user: String::new()
            }
        );
        let text = format!(r#"{{"id":"{id}","height":99999,"width":null}}"#);
        let init = Init::parse(text.as_bytes()).unwrap();
        assert_eq!((init.id, init.height, init.width, init.command.as_str()), (id, 0, 0, ""));
        for text in ["", "[]", "{}", r#"{"ID":"x"}"#] {
            assert!(Init::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_are_whole_however_they_come() {
        let text = r#"{"data":"a"}{"height":5,"width":6} {"data":"ü","extra":[1,{"x":"}"}]}
            {}"#;
        for size in 1..text.len() {
            let mut messages = Messages::default();
            let all: Vec<Message> = text
                .as_bytes()
                .chunks(size)
                .flat_map(|piece| messages.push(piece).unwrap())
                .collect();
            assert_eq!(all.len(), 4, "in pieces of {size}");
            assert_eq!((all[0].data.as_str(), all[2].data.as_str()), ("a", "ü"));
            assert_eq!((all[1].height, all[1].width), (5, 6));
            assert_eq!(all[3], Message::default(), "nothing of the one before");
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for text in ["x", "[1]", r#"{"data":1}"#, r#"{"height":70000}"#] {
            assert!(Messages::default().push(text.as_bytes()).is_err(), "{text}");
        }
        let mut messages = Messages::default();
        messages.push(br#"{"data":""#).unwrap();
        let long = vec![b'x'; MAX_MESSAGE];
        assert!(messages.push(&long).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = Init::parse(&bytes);
            let _ = Messages::default().push(&bytes);
        }
    }
}
