//! Comparing two transcripts, and judging the differences by the table of known deviations. Used by `main.rs`.

use std::collections::{BTreeMap, BTreeSet};

/// Everything that was observed in one play of a scenario: texts in normal form, by aspect.
pub type Transcript = BTreeMap<String, String>;

/// A difference from the original that is meant to be.
#[derive(Debug)]
pub struct Deviation {
    /// The scenario in which it shows.
    pub scenario: &'static str,
    /// The aspect of the transcript in which it shows.
    pub aspect: &'static str,
    /// What exactly it is: lines with `-` only the original has, lines with `+` only ours. A line here that ends in
    /// `…` stands for all that begin so.
    pub differs: &'static [&'static str],
    /// Why, in a sentence.
    pub reason: &'static str,
}

/// Compares what was observed and gives everything that is wrong: a difference that is not in the table, one that is
/// not as the table says, and one that the table has but nobody saw.
pub fn judge(scenario: &str, original: &Transcript, ours: &Transcript, table: &[Deviation]) -> Vec<String> {
    let known: BTreeMap<&str, &Deviation> =
        table.iter().filter(|entry| entry.scenario == scenario).map(|entry| (entry.aspect, entry)).collect();
    let aspects: BTreeSet<&str> = original.keys().chain(ours.keys()).map(String::as_str).collect();
    let mut wrong = Vec::new();
    for aspect in &aspects {
        let difference = difference(original.get(*aspect), ours.get(*aspect));
        match (difference.is_empty(), known.get(*aspect)) {
            (true, None) => {}
            (true, Some(entry)) => {
                wrong.push(format!("{aspect}: the known deviation occurs no longer ({})", entry.reason));
            }
            (false, None) => wrong.push(format!("{aspect}: differs\n{}", indent(&difference))),
            (false, Some(entry)) => {
                if !fits(entry.differs, &difference) {
                    wrong.push(format!(
                        "{aspect}: differs, but not as it should ({})\n{}\n  and should:\n{}",
                        entry.reason,
                        indent(&difference),
                        indent(&entry.differs.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
                    ));
                }
            }
        }
    }
    let unseen = known.keys().filter(|aspect| !aspects.contains(*aspect));
    wrong.extend(unseen.map(|aspect| format!("{aspect}: a deviation of an aspect that nobody observes")));
    wrong
}

fn fits(expected: &[&str], difference: &[String]) -> bool {
    let fits = |(expected, line): (&&str, &String)| match expected.strip_suffix('…') {
        Some(beginning) => line.starts_with(beginning),
        None => expected == line,
    };
    expected.len() == difference.len() && expected.iter().zip(difference).all(fits)
}

/// The lines that only one side has, in order; `(nothing)` for an aspect that a side does not have at all.
fn difference(original: Option<&String>, ours: Option<&String>) -> Vec<String> {
    let lines = |text: Option<&String>| -> Vec<String> {
        text.map_or_else(|| vec!["(nothing)".to_owned()], |text| text.lines().map(str::to_owned).collect())
    };
    let (original, ours) = (lines(original), lines(ours));
    let common = longest_common(&original, &ours);
    let mut result = Vec::new();
    let (mut left, mut right) = (original.iter(), ours.iter());
    for line in common.iter().map(Some).chain([None]) {
        result.extend(left.by_ref().take_while(|one| Some(*one) != line).map(|one| format!("-{one}")));
        result.extend(right.by_ref().take_while(|one| Some(*one) != line).map(|one| format!("+{one}")));
    }
    result
}

/// The longest sequence of lines that both have in this order.
fn longest_common(original: &[String], ours: &[String]) -> Vec<String> {
    // best[i][j]: the answer for original[i..] and ours[j..].
    let mut best = vec![vec![Vec::new(); ours.len() + 1]; original.len() + 1];
    for i in (0..original.len()).rev() {
        for j in (0..ours.len()).rev() {
            best[i][j] = if original[i] == ours[j] {
                [&[original[i].clone()], best[i + 1][j + 1].as_slice()].concat()
            } else if best[i + 1][j].len() >= best[i][j + 1].len() {
                best[i + 1][j].clone()
            } else {
                best[i][j + 1].clone()
            };
        }
    }
    best[0][0].clone()
}

fn indent(lines: &[String]) -> String {
    lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(messages: &str) -> Transcript {
        BTreeMap::from([("messages".to_owned(), messages.to_owned())])
    }

    const TABLE: [Deviation; 1] =
        [Deviation { scenario: "known", aspect: "messages", differs: &["-b", "+c"], reason: "c is better" }];

    #[test]
    fn what_is_alike_is_right() {
        assert_eq!(judge("any", &transcript("a\nb"), &transcript("a\nb"), &TABLE), [""; 0]);
    }

    #[test]
    fn a_difference_must_be_known() {
        let wrong = judge("any", &transcript("a\nb\nd"), &transcript("a\nc\nd"), &TABLE);
        assert_eq!(wrong, ["messages: differs\n    -b\n    +c"]);
        assert_eq!(judge("known", &transcript("a\nb\nd"), &transcript("a\nc\nd"), &TABLE), [""; 0]);
    }

    #[test]
    fn a_known_difference_must_be_as_it_is_known() {
        let wrong = judge("known", &transcript("a\nb"), &transcript("a\ne"), &TABLE);
        assert!(wrong.len() == 1 && wrong[0].contains("not as it should"), "{wrong:?}");
    }

    #[test]
    fn more_words_may_be_left_open() {
        let difference = ["-failed".to_owned(), "+failed; do this".to_owned()];
        assert!(fits(&["-failed", "+failed…"], &difference));
        assert!(!fits(&["-failed", "+failed"], &difference));
        assert!(!fits(&["-failed", "+did not work…"], &difference));
        assert!(!fits(&["-failed"], &difference));
    }

    #[test]
    fn a_known_difference_must_occur() {
        let wrong = judge("known", &transcript("a"), &transcript("a"), &TABLE);
        assert_eq!(wrong, ["messages: the known deviation occurs no longer (c is better)"]);
        let wrong = judge("known", &Transcript::new(), &Transcript::new(), &TABLE);
        assert_eq!(wrong, ["messages: a deviation of an aspect that nobody observes"]);
    }

    #[test]
    fn an_aspect_that_one_side_lacks_differs() {
        let wrong = judge("any", &transcript("a"), &Transcript::new(), &TABLE);
        assert_eq!(wrong, ["messages: differs\n    -a\n    +(nothing)"]);
    }

    #[test]
    fn differences_are_minimal_and_in_order() {
        let text = |text: &str| Some(text.to_owned());
        let of = |one: &str, other: &str| difference(text(one).as_ref(), text(other).as_ref());
        assert_eq!(of("a\nb\nc\nd", "b\nx\nd\ne"), ["-a", "-c", "+x", "+e"]);
        assert_eq!(of("", ""), [""; 0]);
    }
}
