//! Values spelled the way the `coder` client takes them.
//!
//! | kind | forms |
//! |---|---|
//! | booleans | `1 t T TRUE true True` and their opposites; empty means false |
//! | durations | `1h30m`, `250ms`, and days and weeks: `2d`, `1w` |
//! | lists | each occurrence is one CSV record, occurrences and the variable add up; an empty one starts over |

use std::time::Duration;

/// A boolean (Go: `strconv.ParseBool`).
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// A duration that is not negative (Go: `time.ParseDuration`, with days and weeks).
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 5s, 1m30s, 2h or 1d".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return Err(wrong()),
        };
        total += number.parse::<f64>().map_err(|_| wrong())? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(total).map_err(|_| "the duration is too long".to_owned())
}

/// A list: what the variable says, then each occurrence on the command line.
pub(super) fn list(variable: Option<&str>, occurrences: &[String]) -> Result<Vec<String>, String> {
    let mut values = Vec::new();
    for record in variable.into_iter().chain(occurrences.iter().map(String::as_str)) {
        if record.is_empty() {
            values.clear();
        } else {
            values.extend(fields(record)?);
        }
    }
    Ok(values)
}

/// One CSV record (RFC 4180; Go: `encoding/csv` with its defaults).
fn fields(record: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains('"') {
                    return Err("a quote inside a field: quote the whole field".to_owned());
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// The field behind an opening quote, and what follows its closing one.
fn quoted_field(mut rest: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err("a quote is not closed".to_owned());
        };
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((field, after)),
            None => return Err("text follows a closing quote".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_of_go_and_days_and_weeks() {
        for (text, seconds) in [
            ("0", 0.0),
            ("5s", 5.0),
            ("1m30s", 90.0),
            ("1.5h", 5400.0),
            ("250ms", 0.25),
            ("2d", 172_800.0),
            ("1w", 604_800.0),
            ("1us", 1e-6),
        ] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in
            ["", "5", "s", "-5s", "5 s", "1..5s", "5x", "é", "1e3s", "99999999999999999999w"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_add_up_and_split_like_csv() {
        let read = |variable, flags: &[&str]| {
            list(variable, &flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read(None, &[]).unwrap(), Vec::<String>::new());
        assert_eq!(read(Some("a=1,b=2"), &["c=3"]).unwrap(), ["a=1", "b=2", "c=3"]);
        assert_eq!(read(Some("a"), &["", "b"]).unwrap(), ["b"]);
        assert_eq!(
            read(None, &[r#""a=1,2","say ""hi""",c"#]).unwrap(),
            ["a=1,2", "say \"hi\"", "c"]
        );
        assert_eq!(read(None, &["a,,"]).unwrap(), ["a", "", ""]);
        for wrong in [r#""a"#, r#"a"b"#, r#""a"b"#] {
            assert!(read(None, &[wrong]).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9smhdwn.,\"=a]{0,30}|.{0,20}") {
            let _ = duration(&text);
            let _ = list(Some(&text), std::slice::from_ref(&text));
        }

        #[test]
        fn what_is_quoted_comes_back(values in prop::collection::vec(".{0,10}", 1..4)) {
            let quoted = values.iter().map(|v| format!("\"{}\"", v.replace('"', "\"\"")));
            let record = quoted.collect::<Vec<_>>().join(",");
            prop_assert_eq!(list(None, &[record]).unwrap(), values);
        }
    }
}
