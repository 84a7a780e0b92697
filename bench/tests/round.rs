//! The benchmark itself, end to end: a quick round of start_server and the floor, and the page that is made of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports what fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::{TempDir, start_server};

/// What each of the two has to have, with the params at which it is measured; the load's percentiles that take
/// thousands of requests are not there on a slow machine.
const MEASURES: &[(&str, &[Option<&str>])] = &[
    ("start_to_accept", NO_PARAM),
    ("hup_to_main", NO_PARAM),
    ("main_to_ready", NO_PARAM),
    ("ready_to_term", NO_PARAM),
    ("hup_to_done", NO_PARAM),
    ("hup_to_answer", NO_PARAM),
    ("restarts", CLIENTS),
    ("requests", CLIENTS),
    ("lost", CLIENTS),
    ("lost_refused", CLIENTS),
    ("lost_reset", CLIENTS),
    ("lost_short", CLIENTS),
    ("lost_timeout", CLIENTS),
    ("lost_other", CLIENTS),
    ("lost_reused", &[Some("keep-alive")]),
    ("latency_p50", &[Some("calm"), Some("restart")]),
];
const NO_PARAM: &[Option<&str>] = &[None];
const CLIENTS: &[Option<&str>] = &[Some("new connections"), Some("keep-alive")];

#[test]
fn a_quick_round_gives_every_figure_and_a_page() {
    let directory = TempDir::new();
    let directory = directory.path();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for program in ["floor", "server"] {
        let source = root.join(format!("bench/programs/{program}.c"));
        run(Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-static", "-o"])
            .arg(directory.join(program))
            .arg(source));
    }
    let data = directory.join("data.jsonl");
    let mut measure = Command::new(env!("CARGO_BIN_EXE_bench"));
    measure.args(["measure", "--quick", "--rounds=1", "--only=ours/told,floor", "--measures=timing,load"]);
    run(measure
        .args([path("root", root), path("ours", start_server()), path("compiled", directory)])
        .args([path("tools", &directory.join("tools")), path("data", &data)]));

    let text = fs::read_to_string(&data).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let about = lines.next().unwrap();
    assert_eq!(about["about"]["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["floor", "ours"]);
    let sets: Vec<Value> = lines.collect();
    assert!(sets.iter().all(|set| set["failed"].is_null()), "{text}");
    for candidate in ["ours", "floor"] {
        let samples = |measure: &str, param: Option<&str>| -> Vec<f64> {
            let set = sets.iter().find(|set| {
                (set["candidate"].as_str(), set["mode"].as_str()) == (Some(candidate), Some("told"))
                    && (set["measure"].as_str(), set["param"].as_str()) == (Some(measure), param)
            });
            let set = set.unwrap_or_else(|| panic!("{candidate} has no {measure} ({param:?}):\n{text}"));
            set["samples"].as_array().unwrap().iter().map(|sample| sample.as_f64().unwrap()).collect()
        };
        for (measure, params) in MEASURES {
            for param in *params {
                assert!(!samples(measure, *param).is_empty(), "{candidate} has no sample of {measure} ({param:?})");
            }
        }
        assert_eq!(samples("hup_to_main", None).len(), 5);
        for clients in CLIENTS {
            assert!(samples("restarts", *clients)[0] >= 1.0 && samples("requests", *clients)[0] >= 1.0, "{text}");
            // A kept connection can be closed while the client asks, whoever restarts the server.
            let retryable = if *clients == Some("keep-alive") { samples("lost_reused", *clients)[0] } else { 0.0 };
            assert_eq!(samples("lost", *clients), [retryable], "{candidate}, {clients:?}:\n{text}");
        }
    }

    let page = directory.join("docs/benchmarks.md");
    fs::create_dir(page.parent().unwrap()).unwrap();
    run(Command::new(env!("CARGO_BIN_EXE_bench")).args(["report", &path("data", &data), &path("out", &page)]));
    let page = fs::read_to_string(&page).unwrap();
    let (_, table) = page.split_once("### HUP → first instruction of the new server\n").unwrap();
    for row in ["| `start_server` | told | 5 |", "| the floor | told | 5 |"] {
        assert!(table.contains(row), "“{row}” is missing in\n{page}");
    }
    assert!(directory.join("docs/benchmarks/hup-to-main.svg").exists() && !page.contains("### What failed"), "{page}");
}

fn path(option: &str, path: &Path) -> String {
    format!("--{option}={}", path.display())
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}
