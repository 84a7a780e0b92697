//! Pictures as SVG, drawn by hand: dots on a line for each candidate, bars, and lines that grow. They need no script and
//! no font of their own, and suit a light page as well as a dark one.

use std::fmt::Write;

use super::markdown::number;
use super::statistics::Summary;

const WIDTH: f64 = 860.0;
/// Where the scale begins: the names of the candidates are on its left.
const LEFT: f64 = 232.0;
/// Right of the scale stand the medians.
const RIGHT: f64 = 76.0;
const TOP: f64 = 66.0;
const BOTTOM: f64 = 34.0;
const ROW: f64 = 22.0;
/// Dots of a row that are nearer to each other than this are one.
const GRAIN: f64 = 0.75;

/// Colours that those who see few can tell apart, after Okabe and Ito; the page's own brightness chooses the rest.
const STYLE: &str = "<style>\
    text{fill:#24292f;font-family:sans-serif;font-size:12px}.title{font-size:15px}.soft{fill:#6e7781}.page{fill:#ffffff}\
    .grid{stroke:#d8dee4;stroke-width:0.7;fill:none}.axis{stroke:#6e7781;fill:none}.other{fill:#6e7781;stroke:#6e7781}\
    .ours{fill:#0072b2;stroke:#0072b2}.floor{fill:#009e73;stroke:#009e73}circle.dot{fill-opacity:0.45;stroke:none}\
    circle.hollow{fill-opacity:0;stroke-width:1.6}rect.bar{stroke:none}rect.pale{fill-opacity:0.35;stroke:none}\
    path.line{fill:none;stroke-width:2}.ours-text{fill:#0072b2;font-weight:bold}\
    .c0{stroke:#e69f00;fill:#e69f00}.c1{stroke:#d55e00;fill:#d55e00}.c2{stroke:#cc79a7;fill:#cc79a7}\
    .c3{stroke:#56b4e9;fill:#56b4e9}.c4{stroke:#8c6d31;fill:#8c6d31}.c5{stroke:#999999;fill:#999999}\
    @media (prefers-color-scheme:dark){text{fill:#e6edf3}.soft{fill:#9198a1}.page{fill:#0d1117}.grid{stroke:#30363d}\
    .axis{stroke:#9198a1}.other{fill:#9198a1;stroke:#9198a1}.ours{fill:#4aa8ff;stroke:#4aa8ff}\
    .floor{fill:#2fd3a0;stroke:#2fd3a0}.ours-text{fill:#4aa8ff}}\
    </style>\n";

/// Whose figures they are, which decides the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// start_server.
    Ours,
    /// The lower bound.
    Floor,
    /// One of the others, by its number.
    Other(usize),
}

/// One line of a strip or of bars.
#[derive(Debug)]
pub struct Row {
    /// The name on the left.
    pub label: String,
    /// Whose it is.
    pub who: Who,
    /// All samples; or for bars and pairs, two sets of which the first is the one before.
    pub before: Vec<f64>,
    /// The second set; empty in a strip.
    pub after: Vec<f64>,
}

/// One line of a picture of growth.
#[derive(Debug)]
pub struct Line {
    /// The name at its end.
    pub label: String,
    /// Whose it is.
    pub who: Who,
    /// How many, and the median there.
    pub points: Vec<(f64, f64)>,
}

/// Every sample as a dot on a logarithmic scale, the median as a stroke; nothing if there are no samples above zero.
pub fn strip(title: &str, note: &str, unit: &str, rows: &[Row]) -> Option<String> {
    let scale = Scale::logarithmic(rows.iter().flat_map(|row| &row.before).copied(), LEFT, WIDTH - RIGHT)?;
    Some(picture(title, note, unit, &scale, rows, |out, row, y| {
        let mut last = [f64::NEG_INFINITY; 7];
        let mut sorted: Vec<f64> = row.before.iter().copied().filter(|sample| *sample > 0.0).collect();
        sorted.sort_by(f64::total_cmp);
        for sample in sorted {
            let x = scale.at(sample);
            // Dots that would hide each other go to the next of the row's lanes, in an order that looks like none.
            let Some(lane) =
                last.iter().position(|last| x - last > 5.0).or(last.iter().position(|last| x - last > GRAIN))
            else {
                continue;
            };
            if let Some(place) = last.get_mut(lane) {
                *place = x;
            }
            let offset = [0.0, -2.4, 2.4, -4.8, 4.8, -7.2, 7.2].get(lane).copied().unwrap_or(0.0);
            let class = class(row.who);
            writeln!(out, "<circle class=\"{class} dot\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"2\"/>", y + offset)?;
        }
        let Some(all) = Summary::of(&row.before) else { return Ok(()) };
        if all.median > 0.0 {
            let x = scale.at(all.median);
            writeln!(out, "<path class=\"axis\" stroke-width=\"2\" d=\"M{x:.1} {:.1}v18\"/>", y - 9.0)?;
        }
        value(out, row.who, y, &number(all.median))
    }))
}

/// Two bars for each row, before and after, on a scale that begins at zero.
pub fn bars(title: &str, note: &str, unit: &str, rows: &[Row]) -> Option<String> {
    let median = |samples: &[f64]| Summary::of(samples).map(|all| all.median);
    let all = rows.iter().flat_map(|row| [median(&row.before), median(&row.after)]).flatten();
    let scale = Scale::linear(all, LEFT, WIDTH - RIGHT)?;
    Some(picture(title, note, unit, &scale, rows, |out, row, y| {
        let (before, after) = (median(&row.before), median(&row.after));
        for (median, kind, top) in [(before, "pale", y - 7.0), (after, "bar", y)] {
            let Some(median) = median else { continue };
            let width = (scale.at(median) - LEFT).max(0.5);
            let class = class(row.who);
            writeln!(
                out,
                "<rect class=\"{class} {kind}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"7\"/>"
            )?;
        }
        value(out, row.who, y, &after.or(before).map(number).unwrap_or_default())
    }))
}

/// Two medians for each row, joined, on a logarithmic scale: a ring before, a disk after.
pub fn pairs(title: &str, note: &str, unit: &str, rows: &[Row]) -> Option<String> {
    let median = |samples: &[f64]| Summary::of(samples).map(|all| all.median);
    let all = rows.iter().flat_map(|row| [median(&row.before), median(&row.after)]).flatten();
    let scale = Scale::logarithmic(all, LEFT, WIDTH - RIGHT)?;
    Some(picture(title, note, unit, &scale, rows, |out, row, y| {
        let class = class(row.who);
        let (before, after) = (median(&row.before), median(&row.after));
        if let (Some(before), Some(after)) = (before, after) {
            let (from, to) = (scale.at(before), scale.at(after));
            writeln!(out, "<path class=\"{class} line\" d=\"M{from:.1} {y:.1}H{to:.1}\"/>")?;
        }
        for (median, kind) in [(before, "hollow"), (after, "")] {
            let Some(median) = median else { continue };
            let x = scale.at(median);
            writeln!(out, "<circle class=\"{class} {kind}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>")?;
        }
        value(out, row.who, y, &after.or(before).map(number).unwrap_or_default())
    }))
}

/// Lines over a number, both logarithmic.
pub fn lines(title: &str, across: &str, unit: &str, lines: &[Line]) -> Option<String> {
    const HEIGHT: f64 = 430.0;
    const NAMES: f64 = 190.0;
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let over = Scale::logarithmic(points().map(|(number, _)| number), 64.0, WIDTH - NAMES)?;
    let up = Scale::logarithmic(points().map(|(_, value)| value), HEIGHT - 48.0, TOP)?;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = (|| {
        head(&mut out, HEIGHT, title, unit)?;
        for (value, label) in up.ticks() {
            let y = up.at(value);
            writeln!(out, "<path class=\"grid\" d=\"M64 {y:.1}H{}\"/>", WIDTH - NAMES)?;
            writeln!(out, "<text x=\"58\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", y + 4.0)?;
        }
        for (value, label) in over.ticks() {
            let x = over.at(value);
            writeln!(out, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{}\"/>", HEIGHT - 48.0)?;
            writeln!(out, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", HEIGHT - 30.0)?;
        }
        let middle = f64::midpoint(64.0, WIDTH - NAMES);
        writeln!(
            out,
            "<text class=\"soft\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 10.0,
            escaped(across)
        )?;
        // Names at the ends of the lines, pushed apart where the lines meet.
        let mut ends: Vec<(f64, &Line)> =
            lines.iter().filter_map(|line| Some((up.at(line.points.last()?.1), line))).collect();
        ends.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut lowest = TOP - 8.0;
        for (y, line) in ends {
            let class = class(line.who);
            let path: Vec<String> = line
                .points
                .iter()
                .map(|(number, value)| format!("{:.1} {:.1}", over.at(*number), up.at(*value)))
                .collect();
            writeln!(out, "<path class=\"{class} line\" d=\"M{}\"/>", path.join("L"))?;
            for (number, value) in &line.points {
                let (x, y) = (over.at(*number), up.at(*value));
                writeln!(out, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>")?;
            }
            lowest = (lowest + 15.0).max(y);
            let x = line.points.last().map_or(LEFT, |(number, _)| over.at(*number));
            let (name, at) = (WIDTH - NAMES + 22.0, lowest);
            writeln!(
                out,
                "<path class=\"{class}\" fill=\"none\" stroke-width=\"0.8\" stroke-dasharray=\"2 3\" d=\"M{:.1} {y:.1}L{:.1} {at:.1}\"/>",
                x + 4.0,
                name - 3.0
            )?;
            let bold = if line.who == Who::Ours { " class=\"ours-text\"" } else { "" };
            writeln!(out, "<text{bold} x=\"{name:.1}\" y=\"{:.1}\">{}</text>", at + 4.0, escaped(&line.label))?;
        }
        writeln!(out, "</svg>")
    })();
    Some(out)
}

/// Where numbers are in a picture.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    fn logarithmic(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (low, high) = bounds(values.filter(|value| *value > 0.0))?;
        let low = 10_f64.powf(floor_to(low.log10()));
        let high = 10_f64.powf(-floor_to(-high.log10())).max(low * 10.0);
        Some(Self { low, high, from, to, logarithmic: true })
    }

    fn linear(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (_, high) = bounds(values)?;
        Some(Self { low: 0.0, high: if high > 0.0 { high } else { 1.0 }, from, to, logarithmic: false })
    }

    fn at(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            value / self.high
        };
        self.from + (self.to - self.from) * part.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let values: Vec<f64> = if self.logarithmic {
            let first = self.low.log10().floor() as i32;
            let last = self.high.log10().ceil() as i32;
            let steps = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
            let wide = self.high / self.low > 1001.0;
            steps
                .filter(|value| *value >= self.low * 0.999 && *value <= self.high * 1.001)
                .filter(|value| !wide || (value.log10() - value.log10().round()).abs() < 0.01)
                .collect()
        } else {
            let rough = self.high / 5.0;
            let power = 10_f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough);
            let step = step.unwrap_or(rough);
            (0..=5).map(|number| f64::from(number) * step).filter(|value| *value <= self.high).collect()
        };
        values.into_iter().map(|value| (value, tick(value))).collect()
    }
}

/// The nearest third of a power of ten below, so that a scale does not begin far from what it shows: 1, 2 or 5.
fn floor_to(log: f64) -> f64 {
    let whole = log.floor();
    let steps = [5_f64.log10(), 2_f64.log10(), 0.0];
    whole + steps.into_iter().find(|step| whole + step <= log + 1e-9).unwrap_or(0.0)
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |bounds, value| {
        let (low, high) = bounds.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// `0.1`, `10`, `1,000`: without the noise of binary fractions.
fn tick(value: f64) -> String {
    let text = number((value * 10_000.0).round() / 10_000.0);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The frame of all pictures that have a row for each candidate.
fn picture(
    title: &str,
    note: &str,
    unit: &str,
    scale: &Scale,
    rows: &[Row],
    draw: impl Fn(&mut String, &Row, f64) -> std::fmt::Result,
) -> String {
    let foot = TOP + ROW * rows.len() as f64;
    let height = foot + BOTTOM;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = (|| {
        head(&mut out, height, title, note)?;
        for (value, label) in scale.ticks() {
            let x = scale.at(value);
            writeln!(out, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{foot}\"/>")?;
            writeln!(
                out,
                "<text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                foot + 18.0
            )?;
        }
        writeln!(
            out,
            "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT + 30.0,
            foot + 18.0,
            escaped(unit)
        )?;
        for (index, row) in rows.iter().enumerate() {
            let y = TOP + ROW * (index as f64 + 0.5);
            let bold = if row.who == Who::Ours { " class=\"ours-text\"" } else { "" };
            writeln!(
                out,
                "<text{bold} x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 10.0,
                y + 4.0,
                escaped(&row.label)
            )?;
            draw(&mut out, row, y)?;
        }
        writeln!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{foot}H{}\"/>\n</svg>", WIDTH - RIGHT)
    })();
    out
}

fn head(out: &mut String, height: f64, title: &str, note: &str) -> std::fmt::Result {
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n<title>{}</title>",
        escaped(title)
    )?;
    out.push_str(STYLE);
    writeln!(out, "<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>")?;
    writeln!(out, "<text class=\"title\" x=\"16\" y=\"26\">{}</text>", escaped(title))?;
    writeln!(out, "<text class=\"soft\" x=\"16\" y=\"46\">{}</text>", escaped(note))
}

fn value(out: &mut String, who: Who, y: f64, text: &str) -> std::fmt::Result {
    let bold = if who == Who::Ours { " class=\"ours-text\"" } else { "" };
    writeln!(out, "<text{bold} x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", WIDTH - 12.0, y + 4.0)
}

fn class(who: Who) -> String {
    match who {
        Who::Ours => "ours".to_owned(),
        Who::Floor => "floor".to_owned(),
        Who::Other(number) if number < 6 => format!("c{number}"),
        Who::Other(_) => "other".to_owned(),
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no way to write these at all.
            char if char.is_control() => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, before: &[f64], after: &[f64]) -> Row {
        Row { label: label.to_owned(), who: Who::Ours, before: before.to_vec(), after: after.to_vec() }
    }

    #[test]
    fn every_picture_is_whole_and_has_what_it_is_given() {
        let rows = [row("a <b>", &[0.5, 2.0, -1.0, 0.0], &[700.0]), row("c", &[], &[]), row("d", &[0.0], &[1.0])];
        let line =
            |points: &[(f64, f64)]| Line { label: "a <b>".to_owned(), who: Who::Other(9), points: points.to_vec() };
        let growth = [line(&[(1.0, 0.5), (1000.0, 30.0)]), line(&[]), line(&[(1.0, 0.0)])];
        for picture in [
            strip("times & dots", "", "ms", &rows),
            bars("times & bars", "", "kB", &rows),
            pairs("times & pairs", "", "ms", &rows),
            lines("times & lines", "listeners", "ms", &growth),
        ] {
            let picture = picture.unwrap();
            for part in ["<title>times &amp; ", "a &lt;b&gt;", "prefers-color-scheme:dark"] {
                assert!(picture.contains(part), "“{part}” is missing in\n{picture}");
            }
            assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
            assert!(picture.ends_with("</svg>\n"), "{picture}");
        }
    }

    #[test]
    fn where_there_is_nothing_there_is_no_picture() {
        for rows in [vec![], vec![row("a", &[], &[])], vec![row("a", &[0.0, -1.0], &[])]] {
            assert_eq!(strip("", "", "", &rows), None);
        }
        assert_eq!(bars("", "", "", &[]), None);
        assert_eq!(pairs("", "", "", &[]), None);
        assert_eq!(lines("", "", "", &[]), None);
    }

    #[test]
    fn its_size_does_not_grow_with_the_samples() {
        let many: Vec<f64> = (0..100_000).map(|number| 1.0 + f64::from(number % 9973) / 5000.0).collect();
        let picture = strip("", "", "ms", &[row("a", &many, &[])]).unwrap();
        assert!(picture.len() < 600_000, "{}", picture.len());
    }

    #[test]
    fn ticks_are_read_without_doubt() {
        for (value, expected) in [(0.1, "0.1"), (0.2 + 0.1, "0.3"), (10.0, "10"), (1000.0, "1,000"), (2.5, "2.5")] {
            assert_eq!(tick(value), expected);
        }
    }

    #[test]
    fn a_scale_begins_near_what_it_shows() {
        for (values, expected) in [([0.6, 900.0], (0.5, 1000.0)), ([1.0, 1.0], (1.0, 10.0)), ([3.0, 40.0], (2.0, 50.0))]
        {
            let scale = Scale::logarithmic(values.into_iter(), 0.0, 1.0).unwrap();
            assert!((scale.low - expected.0).abs() < 1e-6 && (scale.high - expected.1).abs() < 1e-6, "{values:?}");
        }
    }
}
