#![allow(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeMap, time::Duration};

use super::*;

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_built_in_template_and_the_examples_parse() {
    let built_in = Template::parse(BUILT_IN).unwrap();
    assert_eq!(built_in.agents.len(), 1);
    assert_eq!(built_in.agents[0].name.as_str(), "main");
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/templates");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        Template::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} examples");
}

#[test]
fn the_description_above_is_a_template() {
    let source = include_str!("mod.rs");
    let toml: String = source
        .lines()
        .skip_while(|line| *line != "//! ```toml")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| line.trim_start_matches("//!").to_owned() + "\n")
        .collect();
    let template = Template::parse(&toml).unwrap();
    let agent = &template.agents[0];
    assert_eq!(agent.scripts.len(), 2);
    assert_eq!(agent.scripts[0].occasion(), Some(Occasion::Start));
    assert_eq!(agent.scripts[1].occasion(), None);
    assert_eq!(agent.scripts[0].timeout.get(), Duration::from_secs(30));
    assert_eq!(template.start[0].duration.get(), Duration::from_millis(250));
    assert_eq!(template.start[0].log[1].level, LogLevel::Warn);
    assert_eq!(template.presets[0].prebuilds, 2);
    assert_eq!(template.parameters[0].variable(), "PARAMETER_SIZE");
}

#[test]
fn a_workspace_without_agents_is_asked_for_in_so_many_words() {
    assert!(Template::parse("agents = []").unwrap().agents.is_empty());
    assert!(Template::parse("").is_err());
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let agent = "[[agents]]\nname = \"main\"\n";
    let rows: &[(&str, String, &str)] = &[
        ("no agents", String::new(), "missing field `agents`"),
        (
            "unknown key at the top",
            format!("colour = 1\n{agent}"),
            "line 1, column 1: unknown field `colour`",
        ),
        (
            "unknown key of an agent",
            format!("{agent}dir = \"x\"\n"),
            "line 3, column 1: unknown field `dir`",
        ),
        (
            "unknown key of a script",
            format!("{agent}[[agents.scripts]]\nname = \"a\"\nrun = \"b\"\nblocks = true\n"),
            "line 6, column 1: unknown field `blocks`",
        ),
        (
            "a bad name",
            "[[agents]]\nname = \"a--b\"\n".into(),
            "line 2, column 8: \"a--b\" is not a name",
        ),
        ("a long name", format!("[[agents]]\nname = \"{}\"\n", "a".repeat(33)), "line 2"),
        ("not TOML", "[[agents]\n".into(), "line 1"),
        (
            "a bad duration",
            format!("{agent}connection_timeout = \"2 minutes\"\n"),
            "line 3, column 22: \"2 minutes\" is not a duration",
        ),
        ("a long duration", format!("{agent}connection_timeout = \"25h\"\n"), "longer than a day"),
        ("the same agent twice", format!("{agent}{agent}"), "agent \"main\" is there twice"),
        (
            "a directory elsewhere",
            format!("{agent}directory = \"../x\"\n"),
            "not below the workspace's directory",
        ),
        (
            "an absolute directory",
            format!("{agent}directory = \"/etc\"\n"),
            "not below the workspace's directory",
        ),
        (
            "a script with two occasions",
            format!(
                "{agent}[[agents.scripts]]\nname = \"a\"\nrun = \"b\"\non = \"stop\"\ncron = \"* * * * *\"\n"
            ),
            "`on` and `cron` exclude each other",
        ),
        (
            "a schedule of four fields",
            format!("{agent}[[agents.scripts]]\nname = \"a\"\nrun = \"b\"\ncron = \"* * * *\"\n"),
            "line 6, column 8: \"* * * *\" is not a schedule",
        ),
        (
            "a stop script that blocks logins",
            format!(
                "{agent}[[agents.scripts]]\nname = \"a\"\nrun = \"b\"\non = \"stop\"\nblocks_login = true\n"
            ),
            "script \"a\": `blocks_login`",
        ),
        (
            "an occasion of our own",
            format!("{agent}[[agents.scripts]]\nname = \"a\"\nrun = \"b\"\non = \"noon\"\n"),
            "unknown variant `noon`",
        ),
        (
            "metadata too fast",
            format!("{agent}[[agents.metadata]]\nkey = \"a\"\nrun = \"b\"\ninterval = \"100ms\"\n"),
            "at least a second",
        ),
        (
            "metadata with a bad key",
            format!("{agent}[[agents.metadata]]\nkey = \"a b\"\nrun = \"b\"\n"),
            "metadata key \"a b\"",
        ),
        (
            "an app without a place",
            format!("{agent}[[agents.apps]]\nslug = \"a\"\n"),
            "either a `url` or a `command`",
        ),
        (
            "a failure at no step",
            format!("{agent}[[failures]]\ntransition = \"stop\"\nstep = 1\nerror = \"e\"\n"),
            "failure 1 is at step 1, but [[stop]] has 0",
        ),
        (
            "a log line of a number",
            format!("{agent}[[start]]\nstage = \"a\"\nlog = [1]\n"),
            "a text, or a table",
        ),
        (
            "a preset of an unknown parameter",
            format!("{agent}[[presets]]\nname = \"p\"\nparameters = {{ size = \"x\" }}\n"),
            "preset \"p\": parameter \"size\" is not one of the template",
        ),
        (
            "a preset outside of the options",
            format!(
                "{agent}[[parameters]]\nname = \"size\"\noptions = [\"a\", \"b\"]\n[[presets]]\nname = \"p\"\nparameters = {{ size = \"x\" }}\n"
            ),
            "parameter \"size\" cannot be \"x\"; it is one of: a, b",
        ),
        (
            "a prebuild that would have to ask",
            format!(
                "{agent}[[parameters]]\nname = \"size\"\n[[presets]]\nname = \"p\"\nprebuilds = 1\n"
            ),
            "preset \"p\": parameter \"size\" needs a value",
        ),
        (
            "a default outside of the options",
            format!("{agent}[[parameters]]\nname = \"size\"\noptions = [\"a\"]\ndefault = \"b\"\n"),
            "its default \"b\" is not among its options",
        ),
        (
            "two defaults",
            format!(
                "{agent}[[presets]]\nname = \"p\"\ndefault = true\n[[presets]]\nname = \"q\"\ndefault = true\n"
            ),
            "more than one preset",
        ),
        (
            "too many prebuilds",
            format!("{agent}[[presets]]\nname = \"p\"\nprebuilds = 101\n"),
            "more than the 100",
        ),
        ("too long", format!("{agent}# {}", "x".repeat(MAX_TEMPLATE)), "bytes, more than"),
    ];
    for (name, text, wanted) in rows {
        let error = Template::parse(text).expect_err(name).to_string();
        assert!(error.contains(wanted), "{name}: {error:?} lacks {wanted:?}");
    }
}

#[test]
fn durations_are_those_of_go() {
    let rows = [
        ("0", Some(Duration::ZERO)),
        ("0s", Some(Duration::ZERO)),
        ("250ms", Some(Duration::from_millis(250))),
        ("1.5s", Some(Duration::from_millis(1500))),
        ("1h30m", Some(Duration::from_mins(90))),
        ("1m0.5s", Some(Duration::from_millis(60_500))),
        ("10us", Some(Duration::from_micros(10))),
        ("", None),
        ("10", None),
        ("s", None),
        ("-1s", None),
        ("1 s", None),
        ("1.2.3s", None),
        ("1d", None),
    ];
    for (text, wanted) in rows {
        assert_eq!(Span::try_from(text.to_owned()).ok().map(Span::get), wanted, "{text:?}");
    }
}

#[test]
fn the_first_failure_that_fits_a_build_is_its_failure() {
    let template = Template::parse(
        r#"
        [[agents]]
        name = "main"
        [[start]]
        stage = "one"
        [[start]]
        stage = "two"
        [[failures]]
        transition = "start"
        kind = "claim"
        error = "claims fail at the end"
        [[failures]]
        transition = "start"
        build = 3
        step = 2
        error = "the third build fails at its second step"
        [[failures]]
        transition = "stop"
        error = "no stop"
        "#,
    )
    .unwrap();
    let rows = [
        (Transition::Start, Kind::Ordinary, 1, None),
        (Transition::Start, Kind::Prebuild, 1, None),
        (Transition::Start, Kind::Claim, 2, Some((2, "claims fail at the end"))),
        (Transition::Start, Kind::Claim, 3, Some((1, "the third build fails at its second step"))),
        (
            Transition::Start,
            Kind::Ordinary,
            3,
            Some((1, "the third build fails at its second step")),
        ),
        (Transition::Stop, Kind::Ordinary, 2, Some((0, "no stop"))),
        (Transition::Delete, Kind::Ordinary, 3, None),
    ];
    for (transition, kind, build, wanted) in rows {
        assert_eq!(
            template.failure(transition, kind, build),
            wanted,
            "{transition:?} {kind:?} {build}"
        );
    }
}

#[test]
fn parameters_are_known_allowed_and_complete() {
    let template = Template::parse(
        "[[agents]]\nname = \"main\"\n[[parameters]]\nname = \"size\"\noptions = [\"a\", \"b\"]\n\
         [[parameters]]\nname = \"dot-files\"\ndefault = \"none\"\n",
    )
    .unwrap();
    type Row<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
    let rows: [Row<'_>; 4] = [
        (&[("size", "a")], None),
        (&[("size", "a"), ("dot-files", "x")], None),
        (&[], Some("parameter \"size\" needs a value")),
        (
            &[("size", "a"), ("colour", "x")],
            Some("parameter \"colour\" is not one of the template"),
        ),
    ];
    for (named, wanted) in rows {
        let got = template.check_parameters(&values(named)).err().map(|error| error.to_string());
        assert_eq!(got.as_deref(), wanted, "{named:?}");
    }
    assert_eq!(
        template.parameter_values(&values(&[("size", "b")])),
        values(&[("size", "b"), ("dot-files", "none")])
    );
    assert_eq!(template.parameters[1].variable(), "PARAMETER_DOT_FILES");
}
