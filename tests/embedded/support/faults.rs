//! Faults that a server is asked for.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::{Value, json};

/// The socket for them.
pub struct Faults(BufReader<UnixStream>);

impl Faults {
    pub fn at(socket: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(socket).unwrap()))
    }

    /// Says a line and hears the answer.
    #[track_caller]
    pub fn say(&mut self, request: &Value) -> Value {
        let line = format!("{request}\n");
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer.get("error").is_none(), "{request}: {answer}");
        answer
    }

    /// Arms a fault; its number.
    #[track_caller]
    pub fn arm(&mut self, fault: Value) -> u64 {
        self.say(&json!({"arm": fault}))["armed"].as_u64().unwrap()
    }

    /// Holds all jobs that do this; gives the number to let them go by.
    #[track_caller]
    pub fn hold(&mut self, transition: &str) -> u64 {
        self.arm(json!({"hold_job": {"transition": transition}}))
    }

    #[track_caller]
    pub fn disarm(&mut self, number: u64) {
        let answer = self.say(&json!({"disarm": number}));
        assert_eq!(answer["disarmed"], 1, "{answer}");
    }

    /// How often an armed fault has hit.
    #[track_caller]
    pub fn hits(&mut self, number: u64) -> u64 {
        let answer = self.say(&json!({"list": {}}));
        let faults = answer["faults"].as_array().unwrap();
        let fault = faults.iter().find(|fault| fault["id"] == number).unwrap();
        fault["hit"].as_u64().unwrap()
    }
}
