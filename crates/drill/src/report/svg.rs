//! The picture as SVG: every latency over time on a logarithmic scale, what was lost as crosses, the restarts as bands.
//! It needs no script and no font of its own, and opens in any browser.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use super::Report;
use super::text::time;
use crate::sample::{Kind, Outcome};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 40.0;
/// No latency is drawn below this many seconds.
const FLOOR: f64 = 1e-4;
/// Of each kind, the shortest and the longest latency within so many points of width are drawn.
const GRAIN: f64 = 2.0;

/// The whole picture.
pub fn render(report: &Report<'_>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = draw(&mut text, report);
    text
}

/// Where times and latencies are in the picture.
struct Scale {
    whole: f64,
    /// The power of ten, in seconds, at the upper edge.
    decades: f64,
}

impl Scale {
    fn x(&self, at: Duration) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (at.as_secs_f64() / self.whole).min(1.0)
    }

    fn y(&self, seconds: f64) -> f64 {
        let part = (seconds.max(FLOOR) / FLOOR).log10() / self.decades;
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part.min(1.0)
    }
}

fn draw(out: &mut String, report: &Report<'_>) -> fmt::Result {
    let drill = report.drill;
    let answered = || drill.samples.iter().filter(|sample| sample.outcome == Outcome::Answered);
    let longest = answered().map(|sample| sample.latency().as_secs_f64()).fold(0.01, f64::max);
    let scale = Scale { whole: drill.took.as_secs_f64().max(1e-3), decades: (longest / FLOOR).log10().ceil().max(1.0) };
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
    )?;
    writeln!(out, "<title>{}</title>", escaped(&format!("drill of {}", report.plan.address)))?;
    writeln!(out, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>")?;
    let summary = format!(
        "{}: {} requests, {} lost, {} keep-alive races, {} restarts",
        report.plan.address,
        report.tally.requests(),
        report.tally.lost(),
        report.tally.races(),
        drill.restarts.len()
    );
    writeln!(out, "<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>", escaped(&summary))?;
    restarts(out, report, &scale)?;
    axes(out, &scale)?;
    points(out, report, &scale)?;
    legend(out, report)?;
    writeln!(out, "</svg>")
}

fn restarts(out: &mut String, report: &Report<'_>, scale: &Scale) -> fmt::Result {
    let (top, height) = (TOP, HEIGHT - TOP - BOTTOM);
    for (number, restart) in report.drill.restarts.iter().enumerate() {
        let (from, to) = (scale.x(restart.begun), scale.x(restart.ended));
        let fill = if restart.failure.is_some() { "#f6d5d5" } else { "#e8eef7" };
        let width = (to - from).max(1.0);
        writeln!(out, "<g><title>{}</title>", escaped(&super::text::restart_line(number as u32 + 1, restart)))?;
        writeln!(out, "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{fill}\"/>")?;
        if let Some(committed) = restart.committed {
            let x = scale.x(committed);
            let foot = HEIGHT - BOTTOM;
            writeln!(out, "<path d=\"M{x:.1} {top}V{foot}\" stroke=\"#7c93b8\" stroke-dasharray=\"3 3\"/>")?;
        }
        let label = top - 6.0;
        writeln!(out, "<text x=\"{from:.1}\" y=\"{label}\" fill=\"#4a5f85\">{}</text></g>", number + 1)?;
    }
    Ok(())
}

fn axes(out: &mut String, scale: &Scale) -> fmt::Result {
    let (right, foot) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut value = FLOOR;
    for _ in 0..=(scale.decades as u32) {
        let y = scale.y(value);
        let label = if value >= 1.0 { format!("{value:.0} s") } else { format!("{} ms", round(value * 1e3)) };
        writeln!(out, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#dddddd\" stroke-width=\"0.5\"/>")?;
        writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 6.0, y + 4.0)?;
        value *= 10.0;
    }
    for tick in 0..=8_u32 {
        let at = Duration::from_secs_f64(scale.whole * f64::from(tick) / 8.0);
        let (x, y) = (scale.x(at), foot + 18.0);
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", time(at))?;
    }
    writeln!(out, "<path d=\"M{LEFT} {TOP}V{foot}H{right}\" fill=\"none\" stroke=\"#555555\"/>")
}

fn points(out: &mut String, report: &Report<'_>, scale: &Scale) -> fmt::Result {
    let mut cells: BTreeMap<(Kind, u32), (Duration, Duration)> = BTreeMap::new();
    let mut crosses: BTreeMap<u32, usize> = BTreeMap::new();
    for sample in &report.drill.samples {
        let grain = |at| (scale.x(at) / GRAIN) as u32;
        match sample.outcome {
            Outcome::Answered => {
                let latency = sample.latency();
                let cell = cells.entry((sample.kind, grain(sample.asked))).or_insert((latency, latency));
                *cell = (cell.0.min(latency), cell.1.max(latency));
            }
            Outcome::Lost(_) => *crosses.entry(grain(sample.ended)).or_default() += 1,
            Outcome::KeepAliveRace => {}
        }
    }
    for ((kind, column), (shortest, longest)) in cells {
        let (x, colour) = (f64::from(column) * GRAIN, colour(kind));
        let (low, high) = (scale.y(shortest.as_secs_f64()), scale.y(longest.as_secs_f64()));
        writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{high:.1}\" r=\"1.6\" fill=\"{colour}\"/>")?;
        if low - high > 2.0 {
            writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{low:.1}\" r=\"1.6\" fill=\"{colour}\"/>")?;
        }
    }
    for (column, count) in crosses {
        let (x, y) = (f64::from(column) * GRAIN, TOP + 8.0);
        writeln!(
            out,
            "<g><title>{count} lost</title><path d=\"M{:.1} {:.1}l8 8m0 -8l-8 8\" stroke=\"#cc0000\" \
             stroke-width=\"2\"/></g>",
            x - 4.0,
            y - 4.0
        )?;
    }
    Ok(())
}

fn legend(out: &mut String, report: &Report<'_>) -> fmt::Result {
    let mut x = LEFT;
    let y = 46.0;
    for kind in report.tally.kinds.keys() {
        writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{}\"/>", x + 4.0, y - 4.0, colour(*kind))?;
        writeln!(out, "<text x=\"{:.1}\" y=\"{y}\">{}</text>", x + 14.0, kind.name())?;
        x += 100.0;
    }
    writeln!(out, "<path d=\"M{x} {}l8 8m0 -8l-8 8\" stroke=\"#cc0000\" stroke-width=\"2\"/>", y - 8.0)?;
    writeln!(out, "<text x=\"{:.1}\" y=\"{y}\">lost</text>", x + 14.0)?;
    writeln!(out, "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"#d4dfef\"/>", x + 100.0, y - 9.0)?;
    writeln!(out, "<text x=\"{:.1}\" y=\"{y}\">restart, dashed: commit</text>", x + 114.0)
}

/// Colours that those who see few can tell apart, after Okabe and Ito.
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::New => "#0072b2",
        Kind::KeepAlive => "#009e73",
        Kind::Delayed => "#e69f00",
        Kind::Held => "#cc79a7",
        Kind::Slow => "#56b4e9",
    }
}

/// `0.1`, `10`: without the noise of binary fractions.
fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
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
    use crate::report::example;

    #[test]
    fn what_happened_is_in_the_picture() {
        let (plan, drill) = (example::plan(), example::drill());
        let picture = render(&Report::new(&plan, &drill));
        for part in ["http://localhost/?a=b&amp;c", "<title>1 lost</title>", "it &lt;broke&gt;", "keep-alive"] {
            assert!(picture.contains(part), "“{part}” is missing in\n{picture}");
        }
        assert_eq!(picture.matches("<g>").count(), picture.matches("</g>").count());
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }

    #[test]
    fn its_size_does_not_grow_with_the_requests() {
        let plan = example::plan();
        let mut drill = example::drill();
        drill.samples = drill.samples.iter().copied().cycle().take(100_000).collect();
        let picture = render(&Report::new(&plan, &drill));
        assert!(picture.len() < 300_000, "{}", picture.len());
    }

    #[test]
    fn nothing_can_be_drawn_too() {
        let plan = example::plan();
        let mut drill = example::drill();
        (drill.samples, drill.restarts, drill.took) = (Vec::new(), Vec::new(), Duration::ZERO);
        let picture = render(&Report::new(&plan, &drill));
        assert!(!picture.contains("NaN") && picture.ends_with("</svg>\n"), "{picture}");
    }
}
