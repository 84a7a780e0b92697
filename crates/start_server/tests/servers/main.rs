//! The matrix: every real server that this project has a recipe for, started by the command of the recipe, replaced
//! again and again while clients of every kind keep asking, and stopped. The folder `servers` holds the recipes,
//! `docs/servers.md` is made of them.
//!
//! A server that is not installed is not tested, and the test says so; under `CI=true` it fails. In the environment,
//! `SERVERS_RESTARTS` is the number of restarts, and `SERVERS_WRITE` has figures and document written; see
//! `scripts/servers`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking, and what it leaves out on standard error"
)]

mod client;
mod document;
mod figures;
mod load;
mod recipe;
mod stage;

use std::collections::BTreeSet;
use std::time::Duration;

use figures::Figures;
use load::{Count, Load};
use recipe::Recipe;
use stage::Stage;

/// Answers to wait for before and after each restart, so that every generation meets clients that are at it.
const ANSWERS: u64 = 100;

/// One test for each recipe.
macro_rules! recipes {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replaced_under_load(&folder_of(stringify!($name)));
            }
        )*

        /// The folders of the recipes that have a test.
        fn tested() -> BTreeSet<String> {
            [$(folder_of(stringify!($name))),*].into()
        }
    };
}

recipes! {
    go
    gunicorn
    gunicorn_threads
    gunicorn_unix
    h2o
    haproxy
    hypercorn
    java
    lighttpd
    nginx
    node
    node_cluster
    php_fpm
    php_fpm_unix
    puma
    puma_cluster
    rust_axum
    starlet
    starman
    twiggy
    udp
    unicorn
    unicorn_slow_start
    uvicorn
    uwsgi
}

#[test]
fn every_recipe_has_a_test() {
    assert_eq!(tested(), recipe::names());
}

#[test]
fn the_document_says_what_is_so() {
    document::is_current();
}

fn folder_of(test: &str) -> String {
    test.replace('_', "-")
}

fn replaced_under_load(name: &str) {
    let recipe = Recipe::read(name);
    let Some(version) = stage::version(&recipe) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} is not installed");
        eprintln!("{name} is not installed: not tested");
        return;
    };
    let restarts = std::env::var("SERVERS_RESTARTS").map_or(3, |number| number.parse::<u32>().unwrap());
    let stage = Stage::start(&recipe);
    let load = Load::on(&stage.place);
    let wait_answers = || {
        let goal = load.answered() + ANSWERS;
        stage.daemon().wait_for("answers", || (load.answered() >= goal).then_some(()));
    };
    wait_answers();
    let restart = |_| {
        let time = stage.restart();
        wait_answers();
        time
    };
    let times: Vec<Duration> = (0..restarts).map(restart).collect();
    let count = load.stop();
    let first_answer = stage.first_answer;
    let log = stage.daemon().lines().join("\n");
    stage.stop();
    check(&recipe, restarts, &count, &log);
    figures::record(name, &Figures::new(&recipe, version, first_answer, &times, &count));
}

fn check(recipe: &Recipe, restarts: u32, count: &Count, log: &str) {
    let (lost, examples) = (&count.lost, count.examples.join("\n"));
    eprintln!(
        "{}: {restarts} restarts, {} requests, lost {}, races {}",
        recipe.name,
        count.total(),
        figures::ways(lost),
        count.races
    );
    let allowance = recipe.bar.as_ref().map_or(0, |bar| u64::from(bar.allowance(restarts)));
    let is_allowed = |way| recipe.bar.as_ref().is_some_and(|bar| bar.ways.contains(way));
    assert!(lost.keys().all(is_allowed), "lost {}\n{examples}\n{log}", figures::ways(lost));
    assert!(count.lost() <= allowance, "lost {}, of {allowance} at most\n{examples}\n{log}", count.lost());
    if !count.generations.is_empty() {
        let all: Vec<u32> = (1..=1 + restarts).collect();
        assert_eq!(count.generations.keys().copied().collect::<Vec<_>>(), all, "not every generation has answered");
    }
}
