//! docs/benchmarks.md: the whole page, its prose around what the data say.

use std::fmt::Write;

use super::compared::{self, FLOOR, OURS};
use super::figures::Figures;
use super::markdown::{NOTHING, Table, escaped, number, wrapped};
use super::plots::Plot;
use super::{aims, beaten, tables};

/// The page. The pictures are in the folder `benchmarks` beside it.
pub fn render(figures: &Figures, plots: &[Plot]) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, figures, plots);
    wrapped(out.trim_end())
}

fn write_all(out: &mut String, figures: &Figures, plots: &[Plot]) -> std::fmt::Result {
    out.push_str(
        "# Benchmarks\n\n\
         start_server beside other programs that start and restart servers, and beside the least that any of them could do. \
         All were measured in one run, in turns, with the same tiny server. This page, its tables and its pictures are made \
         by `bench report` out of [the raw data](benchmarks/data.jsonl); to change it, measure again.\n\n",
    );
    out.push_str(
        "- [Where start_server is not the best](#where-start_server-is-not-the-best)\n\
         - [What the figures cannot show](#what-the-figures-cannot-show)\n\
         - [What was compared](#what-was-compared)\n\
         - [Figures](#figures)\n\
         - [Pictures](#pictures)\n\
         - [What we aim for](#what-we-aim-for)\n\
         - [How to repeat it](#how-to-repeat-it)\n\n",
    );
    worst(out, figures)?;
    doubts(out, figures)?;
    candidates(out, figures)?;
    write!(
        out,
        "## Figures\n\n\
         Medians over all samples of all rounds, in brackets the least and the most, n samples. “To ours” and “to the \
         floor” say how many times the median is that of start_server and of the floor, in the same mode if they were \
         measured in it. A dash stands for what was not measured or cannot be.\n\n{MODES}\n\n"
    )?;
    out.push_str(&tables::render(figures));
    out.push_str("## Pictures\n\n");
    if plots.is_empty() {
        out.push_str("Nothing was measured that could be drawn.\n\n");
    }
    for plot in plots {
        write!(out, "![{}](benchmarks/{})\n\n", escaped(&plot.says), plot.file)?;
    }
    write!(
        out,
        "## What we aim for\n\n\
         The limits that start_server sets itself, whatever the others need. Times are medians; for memory, wake-ups and \
         descriptors the worst sample counts.\n\n{}",
        aims::render(figures)
    )?;
    repeat(out, figures)
}

const MODES: &str = "The modes: `default`, all timers as the program has them; `told`, the server tells that it is ready, \
    where the candidate listens to that; `small`, the timers as short as the candidate takes them. The timers of \
    Server::Starter, which start_server keeps unless it is told otherwise, let a new server live for a second before it \
    counts as started: in `default` that second is part of every restart. There a restart comes after more than a second \
    of rest, in `told` and `small` right after another one; after a rest everything takes longer, and the floor, which \
    was measured without one, would, too.";

fn worst(out: &mut String, figures: &Figures) -> std::fmt::Result {
    out.push_str("## Where start_server is not the best\n\n");
    let found = beaten::find(figures);
    let list = |sentences: &[String]| sentences.iter().map(|sentence| format!("- {sentence}\n")).collect::<String>();
    if figures.is_empty() && found.by_others.is_empty() {
        out.push_str("Nothing was measured.\n\n");
    } else if found.by_others.is_empty() {
        out.push_str("In this run nobody but the floor was better in any measure by more than noise.\n\n");
    } else {
        write!(out, "Found in the data, all measures and modes:\n\n{}\n", list(&found.by_others))?;
    }
    if !found.by_the_floor.is_empty() {
        write!(
            out,
            "The floor, which does the same steps and nothing else, is the lower bound. start_server is above it in:\n\n{}\n",
            list(&found.by_the_floor)
        )?;
    }
    out.push_str(
        "Better by more than noise means: the medians differ by more than a tenth, and in three of four pairs, a sample of \
         each, the other one's is better; for latencies, also by more than calm differs from round to round. Who tells the old server to stop before the new one can serve is not better at \
         that. Servers that only restart themselves are compared like everybody else; start_server.rb, which becomes start_server, is not.\n\n",
    );
    Ok(())
}

fn doubts(out: &mut String, figures: &Figures) -> std::fmt::Result {
    out.push_str("## What the figures cannot show\n\n");
    let machine = figures.about.as_ref().map_or("one machine".to_owned(), |about| {
        format!("one machine with {} processors ({})", about.cores, escaped(&about.cpu))
    });
    writeln!(
        out,
        "- They come from {machine}, a virtual one, whose host does other things, too. Superdaemon, servers, clients and the \
         measuring program share it. Ratios of less than 1.5 between two times of a millisecond, and every maximum, are \
         mostly noise."
    )?;
    out.push_str(
        "- The files of a run, logs and status files too, are in memory, as those of services under `/run` are. On a disk \
         with ext4, replacing a status file takes 0.1 to 0.3 ms, and as long as it likes when the disk is busy.\n",
    );
    for (measure, param, what) in [
        ("hup_to_main", None, "HUP → first instruction"),
        ("start_to_accept", None, "start → first accept"),
        ("latency_p99", Some("calm"), "99th percentile of latency while nothing happened"),
    ] {
        let ours = figures.ours("default", measure, param);
        let wobble = ours.and_then(|ours| figures.known(measure, param, &ours)?.wobble());
        if let Some((least, most)) = wobble {
            let (least, most) = (number(least), number(most));
            writeln!(
                out,
                "- How much noise: start_server's own {what} had medians between {least} and {most} ms in the rounds of \
                 this run."
            )?;
        }
    }
    out.push_str(
        "- The server is tiny, and ready at once. With a real one its own start is most of a restart, and hardly any of the \
         differences in time matter; that nothing is lost while it starts does.\n\
         - That nothing is lost proves little here: a server that stops well, on a listener that never closes, can hardly \
         lose anything, whoever restarts it. What *your* server loses, and why, [`drill`](drill.md) tells.\n\
         - The load comes from the same machine, over the loopback interface. No network, no TLS, no thousands of clients.\n\
         - Each candidate has one sensible configuration, which somebody who knows it well might better.\n\n",
    );
    Ok(())
}

fn candidates(out: &mut String, figures: &Figures) -> std::fmt::Result {
    out.push_str("## What was compared\n\n");
    if let Some(about) = &figures.about {
        let mut table = Table::new(["the run", ""]);
        let rounds = about.rounds.to_string();
        let load = format!("{} before, {} after", about.load_before, about.load_after);
        for (what, value) in [
            ("date", &about.date),
            ("kernel", &about.kernel),
            ("processor", &about.cpu),
            ("processors", &about.cores.to_string()),
            ("rounds", &rounds),
            ("commit", &about.commit),
            ("load average", &load),
        ] {
            table.row(vec![what.to_owned(), value.clone()]);
        }
        if !about.remark.is_empty() {
            table.row(vec!["remark".to_owned(), about.remark.clone()]);
        }
        out.push_str(&table.render(2));
    }
    let mut table = Table::new(["candidate", "version", "what it is", "what to know"]);
    for known in compared::ALL {
        let version = figures.about.as_ref().and_then(|about| about.versions.get(known.id));
        let name = if known.id == OURS { "`start_server`" } else { known.name };
        let limits = if known.limits.is_empty() { NOTHING } else { known.limits };
        let version = match version {
            Some(version) => version.as_str(),
            None if known.id == FLOOR || known.id == OURS => NOTHING,
            None => "not in this run",
        };
        table.row([name, version, known.what, limits].map(str::to_owned).to_vec());
    }
    out.push_str(&table.render(4));
    out.push_str(
        "Not here: Einhorn and the two ports of Server::Starter to Go. The benchmark installs what it compares from \
         Debian, PyPI, npm and crates.io, and none of these has them.\n\n\
         Between systemd-socket-activate, systemfd and the rest there is a difference of kind: they start a server on a \
         socket and are gone, so that only their start can be measured.\n\n",
    );
    Ok(())
}

fn repeat(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let took = match &figures.about {
        Some(about) => format!(", {} here", about.rounds),
        None => String::new(),
    };
    write!(
        out,
        "## How to repeat it\n\n\
         ```sh\n\
         bench/run                       # all rounds{took}\n\
         bench/run --quick               # a few rounds, to see that it works\n\
         cargo run -p bench -- report    # only this page, of the data that are there\n\
         ```\n\n\
         As root, or with `sudo`, on Debian or its kin. It installs the candidates (`bench/install`: packages of Debian, a \
         Python environment and the programs of crates.io in `bench/.installed`), builds start_server for release, compiles \
         the tiny server and the floor (`bench/programs`), measures, and writes this page, the pictures and the README's \
         figures. Nothing else should run meanwhile; the load average before and after is noted above.\n\n\
         The raw data are in `docs/benchmarks/data.jsonl`: a line about the run, then one for each set of samples, with \
         round, candidate, mode, measure, what it was measured at, and unit. What failed is there with its reason.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::{failed, set};
    use crate::samples::About;

    #[test]
    fn the_page_claims_nothing_that_was_not_measured() {
        let better = "nobody but the floor was better";
        let perl = set("perl", "default", "hup_to_main", None, &[2.0]);
        let cases = [
            (vec![], "Nothing was measured."),
            (vec![perl.clone()], "not measured of start_server."),
            (
                vec![perl.clone(), failed("ours", "default", "hup_to_main", None, "It hung.")],
                "start_server failed. It hung.",
            ),
            (vec![perl.clone(), set("ours", "default", "hup_to_main", None, &[1.0])], better),
            (vec![perl, set("ours", "default", "hup_to_main", None, &[4.0])], "2.0 times as long as"),
        ];
        for (sets, expected) in cases {
            let page = render(&Figures::new(None, &sets), &[]).replace('\n', " ");
            let first = page.find(expected);
            assert!(first.is_some() && first < page.find("## What was compared"), "“{expected}” is missing in {page}");
            assert_eq!(page.contains(better), expected == better);
        }
    }

    #[test]
    fn who_took_part_is_said_with_its_version() {
        let versions =
            [("perl", "0.35"), ("nginx", "1.22 | <b>")].map(|(id, version)| (id.to_owned(), version.to_owned()));
        let about = About { cores: 2, rounds: 5, versions: versions.into(), ..About::default() };
        let page = render(&Figures::new(Some(about), &[]), &[]);
        for part in [
            "| Server::Starter (Perl) | 0.35 |",
            "| nginx | 1.22 \\| &lt;b&gt; |",
            "| Circus | not in this run |",
            "| rounds | 5 |",
            "one machine with 2 processors",
        ] {
            assert!(page.contains(part), "“{part}” is missing in\n{page}");
        }
    }
}
