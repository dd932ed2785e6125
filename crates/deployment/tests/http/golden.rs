//! Answers held to files of the repository.

use std::{collections::HashMap, fs, path::Path};

use serde_json::Value;

/// Holds an answer to `golden/NAME.json`. Ids become numbers in the order of their appearance,
/// times and tokens become their kind.
pub fn assert_golden(name: &str, answer: &Value) {
    let mut known = HashMap::new();
    let text = serde_json::to_string_pretty(&tame(answer, &mut known)).unwrap() + "\n";
    let path = Path::new("tests/http/golden").join(format!("{name}.json"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
    if std::env::var_os("CODERCTL_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    if expected != text {
        let mut lines = expected.lines().zip(text.lines()).enumerate();
        let at = lines.find(|(_, (expected, seen))| expected != seen);
        panic!(
            "{} differs; CODERCTL_BLESS=1 cargo test -p coderctl-deployment --test http rewrites \
             it.\n{at:?}\n{text}",
            path.display()
        );
    }
}

fn tame(value: &Value, known: &mut HashMap<String, usize>) -> Value {
    match value {
        Value::Object(members) => {
            let tamed = members.iter().map(|(key, value)| {
                let tamed = match (key.as_str(), value) {
                    // A key's id, and what the machine is that the test runs on.
                    ("id", Value::String(id)) if id.len() == 10 => "<key>".into(),
                    ("architecture" | "operating_system", Value::String(_)) => "<this>".into(),
                    (_, value) => tame(value, known),
                };
                (key.clone(), tamed)
            });
            tamed.collect()
        }
        Value::Array(items) => items.iter().map(|item| tame(item, known)).collect(),
        Value::String(text) => Value::String(tame_text(text, known)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn tame_text(text: &str, known: &mut HashMap<String, usize>) -> String {
    if uuid::Uuid::parse_str(text).is_ok() {
        if text == uuid::Uuid::nil().to_string() {
            return "<nil>".to_owned();
        }
        let next = known.len() + 1;
        return format!("<id {}>", known.entry(text.to_owned()).or_insert(next));
    }
    if coderctl_deployment::model::Timestamp::parse_rfc3339(text).is_ok() {
        return "<time>".to_owned();
    }
    if coderctl_deployment::model::SessionToken::parse(text).is_ok() {
        return "<token>".to_owned();
    }
    // The port of the listener.
    if let Some((before, after)) = text.split_once("http://127.0.0.1:") {
        let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
        return format!("{before}<url>{rest}");
    }
    text.to_owned()
}
