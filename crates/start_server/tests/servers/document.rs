//! `docs/servers.md`: the introduction in `servers/introduction.md`, a table, and every recipe with its files and
//! figures. It is generated; a test fails when it is not what would be generated.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use crate::figures;
use crate::recipe::{self, Bar, Recipe};

/// Fails when the document is not what the recipes make it; with `SERVERS_WRITE` in the environment, writes it.
pub fn is_current() {
    let wanted = generate();
    let file = recipe::folder().join("../docs/servers.md");
    if std::env::var_os("SERVERS_WRITE").is_some() {
        fs::write(&file, &wanted).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let differing = wanted.lines().zip(found.lines()).position(|(wanted, found)| wanted != found);
    let line = differing.map_or_else(|| "at its end".to_owned(), |line| format!("in line {}", line + 1));
    assert!(
        wanted == found,
        "docs/servers.md is not what its recipes make it, {line}; run: scripts/servers --document"
    );
}

fn generate() -> String {
    let mut recipes: Vec<Recipe> = recipe::names().iter().map(|name| Recipe::read(name)).collect();
    recipes.sort_by_key(|recipe| recipe.title.to_lowercase());
    let presets = presets();
    let mut text = fs::read_to_string(recipe::folder().join("introduction.md")).unwrap();
    text.push_str(&table(&recipes));
    for recipe in &recipes {
        section(&mut text, recipe, &presets);
    }
    text.push_str("\n## The applications\n\nIn [servers/apps](../servers/apps), for all servers of a kind.\n");
    show_files(&mut text, "apps");
    text
}

fn table(recipes: &[Recipe]) -> String {
    let columns =
        ["server", "version", "restarts", "requests", "lost", "closed while idle", "first answer", "a restart takes"];
    let mut text = format!("\n| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for recipe in recipes {
        let mut row = vec![format!("[{}](#{})", recipe.title, anchor(&recipe.title))];
        match figures::of(recipe) {
            None => row.extend((1..columns.len()).map(|_| String::new())),
            Some(it) => row.extend([
                it.version.clone(),
                it.restarts.to_string(),
                it.requests.to_string(),
                it.lost.clone(),
                it.races.to_string(),
                format!("{:.2} s", thousandth(it.first_answer)),
                format!("{:.1} s", thousandth(it.restart)),
            ]),
        }
        writeln!(text, "| {} |", row.join(" | ")).unwrap();
    }
    text
}

fn section(text: &mut String, recipe: &Recipe, presets: &BTreeMap<String, String>) {
    let folder = format!("servers/{}", recipe.name);
    let command = recipe.build.iter().chain([&recipe.command]).map(|it| it.replace('\n', " \\\n    ") + "\n");
    let command: String = command.collect();
    writeln!(text, "\n## {}\n", recipe.title).unwrap();
    writeln!(text, "{}In [{folder}](../{folder}):\n\n```sh\n{command}```\n", origin(recipe)).unwrap();
    if let Some(preset) = preset(&recipe.command) {
        let options = presets.get(preset).unwrap_or_else(|| panic!("there is no preset {preset}"));
        writeln!(text, "- The preset stands for `{options}`.").unwrap();
    }
    for note in &recipe.notes {
        writeln!(text, "- {}", note.replace('\n', " ")).unwrap();
    }
    if let Some(bar) = &recipe.bar {
        let Bar { requests, restarts, reason, .. } = bar;
        writeln!(text, "- About {requests} requests are lost in {restarts} restarts under this load: {reason}")
            .unwrap();
    }
    if let Some(it) = figures::of(recipe) {
        let [half, most, all] = it.answers.map(thousandth);
        let counts = format!("{} restarts, {} requests: lost {}", it.restarts, it.requests, it.lost);
        let times = format!("half within {half:.1} ms, 99 % within {most:.1} ms, all within {all:.0} ms");
        writeln!(text, "\nVersion {}, {counts}. Answers to all but slow requests: {times}.", it.version).unwrap();
    }
    show_files(text, &recipe.name);
}

/// The preset that a command names.
fn preset(command: &str) -> Option<&str> {
    let (_, rest) = command.split_once("--preset=")?;
    rest.split_whitespace().next()
}

/// The options for which each preset stands, as the superdaemon lists them.
fn presets() -> BTreeMap<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_start_server")).arg("--preset=list").output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let presets = list.split("\n\n").skip(1).map(|it| {
        let mut lines = it.lines();
        let (name, options) = (lines.next().unwrap(), lines.next().unwrap());
        (name.to_owned(), options.trim().to_owned())
    });
    presets.collect()
}

/// Shows every file of a folder.
fn show_files(text: &mut String, folder: &str) {
    let folder = recipe::folder().join(folder);
    for file in recipe::files(&folder) {
        let content = fs::read_to_string(folder.join(&file)).unwrap();
        writeln!(text, "\n`{file}`\n\n```{}\n{}\n```", language(&file), content.trim_end()).unwrap();
    }
}

/// Where a server is installed from, as a sentence.
fn origin(recipe: &Recipe) -> String {
    let list = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match (recipe.debian.as_slice(), recipe.pip.as_slice()) {
        ([], []) => String::new(),
        ([], pip) => format!("From PyPI: {}. ", list(pip)),
        (debian, _) => format!("From Debian: {}. ", list(debian)),
    }
}

fn thousandth(number: u64) -> f64 {
    number as f64 / 1000.0
}

/// How a heading is linked to.
fn anchor(title: &str) -> String {
    let letters = title.to_lowercase();
    letters
        .chars()
        .filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-'))
        .map(|it| if it == ' ' { '-' } else { it })
        .collect()
}

/// The name of a file's language after a fence.
fn language(file: &str) -> &'static str {
    match file.rsplit_once('.').map(|(_, extension)| extension) {
        Some("rb" | "ru") => "ruby",
        Some("py") => "python",
        Some("js") => "js",
        Some("go") => "go",
        Some("java") => "java",
        Some("rs") => "rust",
        Some("php") => "php",
        Some("psgi") => "perl",
        _ => "",
    }
}
