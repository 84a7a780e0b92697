//! A recipe: how a real server runs under the superdaemon, read from the file `recipe` in the server's folder. The
//! suite runs it and the document shows it, so that neither can say anything else than the other.
//!
//! The file has lines `key: value`; an indented line goes on with the value above it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::load::{Class, Loss};

/// The folder with all recipes.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../servers").canonicalize().unwrap()
}

/// The names of all recipes, sorted.
pub fn names() -> BTreeSet<String> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    let recipes = entries.filter(|entry| entry.path().join("recipe").exists());
    recipes.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// What the clients speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Language {
    Http,
    FastCgi,
    Udp,
}

/// Losses that the server cannot avoid, and for which no superdaemon can make up.
#[derive(Debug)]
pub struct Bar {
    /// The mean number of lost requests in `restarts` restarts, and the most that is seen with luck for it.
    pub requests: u32,
    pub restarts: u32,
    /// The only ways in which they may be lost.
    pub ways: BTreeSet<(Class, Loss)>,
    /// Why.
    pub reason: String,
}

/// How a server runs.
#[derive(Debug)]
pub struct Recipe {
    /// The name of its folder.
    pub name: String,
    /// The name that people know it by.
    pub title: String,
    /// The Debian packages that it comes in.
    pub debian: Vec<String>,
    /// The packages that it comes in on PyPI.
    pub pip: Vec<String>,
    /// A shell command that prints its version, and fails where it is not installed.
    pub version: String,
    /// A shell command that is run first, in the folder.
    pub build: Option<String>,
    /// The shell command that starts it, in the folder.
    pub command: String,
    pub language: Language,
    pub bar: Option<Bar>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Recipe {
    /// Reads the recipe in the folder `name`.
    pub fn read(name: &str) -> Self {
        let file = folder().join(name).join("recipe");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self::parse(name, &text)
    }

    fn parse(name: &str, text: &str) -> Self {
        let mut recipe = Self {
            name: name.to_owned(),
            title: String::new(),
            debian: Vec::new(),
            pip: Vec::new(),
            version: String::new(),
            build: None,
            command: String::new(),
            language: Language::Http,
            bar: None,
            notes: Vec::new(),
        };
        for (key, value) in entries(text) {
            match key {
                "title" => recipe.title = value,
                "debian" => recipe.debian = words(&value),
                "pip" => recipe.pip = words(&value),
                "version" => recipe.version = value,
                "build" => recipe.build = Some(value),
                "command" => recipe.command = value,
                "speaks" => recipe.language = value.parse().unwrap(),
                "lost" => recipe.bar = Some(value.parse().unwrap_or_else(|error| panic!("{name}: {error}"))),
                "note" => recipe.notes.push(value),
                _ => panic!("recipe {name}: there is no key “{key}”"),
            }
        }
        let is_whole = ![&recipe.title, &recipe.version, &recipe.command].iter().any(|it| it.is_empty());
        assert!(is_whole, "recipe {name}: a title, a version and a command there must be");
        recipe
    }
}

/// The keys with their values, whose lines are joined.
fn entries(text: &str) -> Vec<(&str, String)> {
    let mut entries: Vec<(&str, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if line.starts_with(' ') {
            let (_, value) = entries.last_mut().expect("the first line begins with a key");
            value.push('\n');
            value.push_str(line.trim());
        } else {
            let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("no key in “{line}”"));
            entries.push((key, value.trim().to_owned()));
        }
    }
    entries
}

fn words(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_owned).collect()
}

/// The files below `folder`, relative to it and sorted: but for the recipe itself, and for what running it leaves.
pub fn files(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        match name.as_str() {
            "recipe" | "run" | "__pycache__" => {}
            _ if entry.path().is_dir() => {
                files.extend(self::files(&entry.path()).iter().map(|file| format!("{name}/{file}")));
            }
            _ => files.push(name),
        }
    }
    files.sort_unstable();
    files
}

impl FromStr for Language {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "http" => Ok(Self::Http),
            "fastcgi" => Ok(Self::FastCgi),
            "udp" => Ok(Self::Udp),
            _ => Err(format!("nobody speaks “{word}”")),
        }
    }
}

impl FromStr for Bar {
    type Err = String;

    /// `15 in 20; new reset, delayed eof; why`
    fn from_str(value: &str) -> Result<Self, String> {
        let error = || format!("this is no bar: “{value}”");
        let [count, ways, reason] = value.splitn(3, ';').collect::<Vec<_>>().try_into().map_err(|_| error())?;
        let (requests, restarts) = count.split_once(" in ").ok_or_else(error)?;
        let way = |text: &str| -> Result<(Class, Loss), String> {
            let (class, loss) = text.trim().split_once(' ').ok_or_else(error)?;
            Ok((class.parse()?, loss.parse()?))
        };
        Ok(Self {
            requests: requests.trim().parse().map_err(|_| error())?,
            restarts: restarts.trim().parse().map_err(|_| error())?,
            ways: ways.split(',').map(way).collect::<Result<_, _>>()?,
            reason: reason.trim().replace('\n', " "),
        })
    }
}

impl Bar {
    /// The most requests that may be lost in so many restarts.
    ///
    /// Each loss is a chance meeting, so the counts of runs differ as they do for any rare event: four standard
    /// deviations above the mean are met once in tens of thousands of runs, and a machine with much to do gets two more.
    pub fn allowance(&self, restarts: u32) -> u32 {
        let mean = f64::from(self.requests) * f64::from(restarts) / f64::from(self.restarts);
        (mean + 4.0 * mean.sqrt()).ceil() as u32 + 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_on_in_indented_lines() {
        let recipe = Recipe::parse("x", "title: X\nversion: x -v\ncommand: a: b\n    c\nnote: one\nnote: two\n");
        assert_eq!((recipe.title.as_str(), recipe.command.as_str()), ("X", "a: b\nc"));
        assert_eq!(recipe.notes, ["one", "two"]);
    }

    #[test]
    fn a_bar_is_a_rate_with_room_for_chance() {
        let bar: Bar = "20 in 20; new reset, delayed eof; it drops\nthem".parse().unwrap();
        assert_eq!(bar.ways, BTreeSet::from([(Class::New, Loss::Reset), (Class::Delayed, Loss::Eof)]));
        assert_eq!(bar.reason, "it drops them");
        assert!((7..20).contains(&bar.allowance(5)));
        assert!("20; new reset; why".parse::<Bar>().is_err());
    }
}
