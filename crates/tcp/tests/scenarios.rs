//! Every script of `scenarios/`, segment by segment. The form is described in `script`.

mod script;
mod sim;

#[test]
fn every_scenario_goes_as_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut problems = Vec::new();
    let mut count = 0;
    for file in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("a scenario can be read");
        // A file holds several scenarios, each under a headline.
        for scenario in text.split("\n## ").skip(1) {
            count += 1;
            let (title, body) = scenario.split_once('\n').unwrap_or((scenario, ""));
            if let Err(problem) = script::run(body) {
                problems.push(format!("{}: {title}: {problem}", file.path().display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= 30, "only {count} scenarios");
}
