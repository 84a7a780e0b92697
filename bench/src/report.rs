//! `bench report`: out of the raw data of a run, docs/benchmarks.md with its pictures, and the figures in the README.

use std::fs;
use std::path::{Path, PathBuf};

use crate::samples;

mod aims;
mod beaten;
mod compared;
mod figures;
mod markdown;
mod page;
mod plots;
mod readme;
mod statistics;
mod svg;
mod tables;

use figures::Figures;
use plots::Plot;

/// Writes the page at `out`, the pictures into the folder of the same name beside it (and removes others from there), and
/// the figures into the README.md of the folder above, if it has marks for them.
pub fn write(data: &Path, out: &Path) -> Result<(), String> {
    let report = Report::of(data)?;
    let folder = out.with_extension("");
    fs::create_dir_all(&folder).map_err(|error| failed("make the folder", &folder, &error))?;
    for old in pictures(&folder)? {
        fs::remove_file(&old).map_err(|error| failed("remove the old picture", &old, &error))?;
    }
    put(out, &report.page)?;
    for plot in &report.plots {
        put(&folder.join(&plot.file), &plot.svg)?;
    }
    let readme = out.parent().and_then(Path::parent).map(|root| root.join("README.md"));
    if let Some((readme, text)) = readme.and_then(|readme| fs::read_to_string(&readme).ok().map(|text| (readme, text)))
        && let Some(changed) = readme::with_figures(&text, &report.figures)
        && changed != text
    {
        put(&readme, &changed)?;
    }
    Ok(())
}

/// All that is made out of one file of data.
struct Report {
    figures: Figures,
    page: String,
    plots: Vec<Plot>,
}

impl Report {
    fn of(data: &Path) -> Result<Self, String> {
        let (about, sets) = samples::read(data)?;
        let figures = Figures::new(about, &sets);
        let plots = plots::all(&figures);
        let page = page::render(&figures, &plots);
        Ok(Self { figures, page, plots })
    }
}

/// The pictures that are in a folder.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| failed("read the folder", folder, &error))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "svg")).collect())
}

fn put(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| failed("write", path, &error))
}

fn failed(what: &str, path: &Path, why: &std::io::Error) -> String {
    format!("Could not {what} {}: {why}.", path.display())
}

#[cfg(test)]
mod example {
    //! Made-up data.

    use crate::samples::Set;

    pub fn set(candidate: &str, mode: &str, measure: &str, param: Option<&str>, samples: &[f64]) -> Set {
        Set {
            round: 1,
            candidate: candidate.to_owned(),
            mode: mode.to_owned(),
            measure: measure.to_owned(),
            param: param.map(str::to_owned),
            unit: "ms".to_owned(),
            samples: samples.to_vec(),
            failed: None,
        }
    }

    pub fn failed(candidate: &str, mode: &str, measure: &str, param: Option<&str>, why: &str) -> Set {
        Set { failed: Some(why.to_owned()), ..set(candidate, mode, measure, param, &[]) }
    }
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn the_whole_report_is_made_of_a_file_even_of_an_empty_one() {
        let root = env::temp_dir().join(format!("bench-report-{}", std::process::id()));
        let (data, out) = (root.join("data.jsonl"), root.join("docs/benchmarks.md"));
        let picture = root.join("docs/benchmarks/hup-to-main.svg");
        fs::create_dir_all(root.join("docs")).unwrap();
        fs::write(root.join("README.md"), "a\n<!-- bench: begin -->\n<!-- bench: end -->\n").unwrap();
        let line = r#"{"round":1,"candidate":"ours","mode":"default","measure":"hup_to_main","param":null,"unit":"ms","samples":[0.8]}"#;
        for (text, drawn) in [(line, true), ("", false)] {
            fs::write(&data, text).unwrap();
            write(&data, &out).unwrap();
            let page = fs::read_to_string(&out).unwrap();
            for heading in ["## Where start_server is not the best\n", "## What we aim for\n", "## How to repeat it\n"]
            {
                assert!(page.contains(heading), "“{heading}” is missing in\n{page}");
            }
            assert_eq!((page.contains("hup-to-main.svg"), picture.exists()), (drawn, drawn));
            assert_eq!(fs::read_to_string(root.join("README.md")).unwrap().contains("0.80 ms"), drawn);
        }
        assert!(write(&root.join("none"), &out).unwrap_err().contains("none"));
        fs::remove_dir_all(&root).unwrap();
    }

    /// What is committed is what `bench report` makes of the data that are committed.
    #[test]
    fn the_documents_are_those_of_the_data() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let data = root.join("docs/benchmarks/data.jsonl");
        if !data.exists() {
            return;
        }
        let report = Report::of(&data).unwrap();
        let differs = |path: &Path, text: &str| fs::read_to_string(path).unwrap_or_default() != text;
        let mut stale = Vec::new();
        if differs(&root.join("docs/benchmarks.md"), &report.page) {
            stale.push("docs/benchmarks.md".to_owned());
        }
        let folder = root.join("docs/benchmarks");
        let made = report.plots.iter().filter(|plot| differs(&folder.join(&plot.file), &plot.svg));
        stale.extend(made.map(|plot| plot.file.clone()));
        let unknown = |path: &PathBuf| !report.plots.iter().any(|plot| path.ends_with(&plot.file));
        stale.extend(
            pictures(&folder).unwrap().iter().filter(|path| unknown(path)).map(|path| path.display().to_string()),
        );
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        if readme::with_figures(&readme, &report.figures).is_some_and(|text| text != readme) {
            stale.push("README.md".to_owned());
        }
        assert!(stale.is_empty(), "not as `bench report` writes them out of docs/benchmarks/data.jsonl: {stale:?}");
    }
}
