//! A picture for the terminal: the longest latency over time, what was lost, and the restarts, a line each.

use std::time::Duration;

use super::text::time;
use crate::drilling::Drill;
use crate::sample::{Kind, Outcome};

/// Columns of the picture.
const WIDTH: usize = 88;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws it, without a line end.
pub fn render(drill: &Drill) -> String {
    let mut longest = [None::<Duration>; WIDTH];
    let mut lost = [' '; WIDTH];
    let mut restarts = ['·'; WIDTH];
    for sample in &drill.samples {
        match sample.outcome {
            Outcome::Answered if sample.kind == Kind::Slow => {}
            Outcome::Answered => {
                if let Some(cell) = longest.get_mut(column(sample.asked, drill.took)) {
                    *cell = (*cell).max(Some(sample.latency()));
                }
            }
            Outcome::Lost(_) => {
                if let Some(cell) = lost.get_mut(column(sample.ended, drill.took)) {
                    *cell = 'X';
                }
            }
            Outcome::KeepAliveRace => {}
        }
    }
    for (number, restart) in drill.restarts.iter().enumerate() {
        let (from, to) = (column(restart.begun, drill.took), column(restart.ended, drill.took));
        let label = char::from_digit(u32::try_from((number + 1) % 10).unwrap_or(0), 10).unwrap_or('0');
        for (index, cell) in restarts.iter_mut().enumerate().take(to + 1).skip(from) {
            *cell = if index == from { label } else { '=' };
        }
    }
    let found = longest.iter().flatten();
    let (least, most) = (found.clone().min().copied(), found.max().copied());
    let bars: String = longest.iter().map(|cell| level(*cell, least, most)).collect();
    let scale = match (least, most) {
        (Some(least), Some(most)) => format!("{} to {}, logarithmic", time(least), time(most)),
        _ => "no answers".to_owned(),
    };
    let (lost, restarts): (String, String) = (lost.iter().collect(), restarts.iter().collect());
    let mut lines = vec![format!("longest latency over time, {scale}"), format!("  {bars}")];
    if lost.contains('X') {
        lines.push(format!("  {lost}"));
    }
    lines.push(format!("  {restarts}"));
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

fn column(at: Duration, whole: Duration) -> usize {
    let part = at.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE);
    // A part of the whole, so it fits; what ended after the drill is in the last column.
    ((part * WIDTH as f64) as usize).min(WIDTH - 1)
}

fn level(value: Option<Duration>, least: Option<Duration>, most: Option<Duration>) -> char {
    let (Some(value), Some(least), Some(most)) = (value, least, most) else { return ' ' };
    let log = |time: Duration| time.as_secs_f64().max(1e-6).ln();
    let part = (log(value) - log(least)) / (log(most) - log(least)).max(1e-9);
    LEVELS.get((part * 7.0).round() as usize).copied().unwrap_or('█')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn restarts_and_losses_stand_below_the_latencies() {
        let picture = render(&example::drill());
        let lines: Vec<&str> = picture.lines().collect();
        assert_eq!(lines.len(), 4, "{picture}");
        let place = |line: &str, char| line.chars().position(|found| found == char).unwrap();
        // The whole is 4 s; restarts begin at 1 and 3, the loss is at 1.5 s.
        assert_eq!(place(lines[3], '1') - 2, WIDTH / 4);
        assert_eq!(place(lines[3], '2') - 2, WIDTH * 3 / 4);
        assert_eq!(place(lines[2], 'X') - 2, 33);
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH + 2));
    }

    #[test]
    fn nothing_can_be_drawn_too() {
        let mut drill = example::drill();
        (drill.samples, drill.restarts, drill.took) = (Vec::new(), Vec::new(), Duration::ZERO);
        assert!(render(&drill).contains("no answers"));
    }

    #[test]
    fn levels_are_logarithmic() {
        let ms = |number| Some(Duration::from_millis(number));
        for (value, expected) in [(ms(1), '▁'), (ms(100), '█'), (ms(10), '▅'), (None, ' ')] {
            assert_eq!(level(value, ms(1), ms(100)), expected);
        }
    }
}
