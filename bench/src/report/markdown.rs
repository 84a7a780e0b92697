//! Numbers and tables as Markdown.

use super::statistics::Summary;

/// What stands where nothing is known.
pub const NOTHING: &str = "–";

/// A table: a heading and rows of text, which is escaped here.
#[derive(Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub fn new<I: IntoIterator<Item: Into<String>>>(head: I) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row; what is missing at its end is filled up.
    pub fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.head.len(), NOTHING.to_owned());
        self.rows.push(cells);
    }

    /// The text, with an empty line after it; nothing but a sentence if there are no rows. Columns of numbers, which
    /// are all that are not marked by `left`, are set to the right.
    pub fn render(&self, left: usize) -> String {
        if self.rows.is_empty() {
            return "Not measured in this run.\n\n".to_owned();
        }
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule: String = (0..self.head.len()).map(|column| if column < left { "---|" } else { "---:|" }).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}|{rule}\n{rows}\n", line(&self.head))
    }
}

/// Text that a table's cell, or a line of a list, shows as it is. Backquotes stay: this report makes them itself.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        match char {
            // Together they are a link.
            '(' if escaped.ends_with(']') => escaped.push_str("\\("),
            '|' | '\\' | '*' => escaped.extend(['\\', char]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            char if char.is_control() => escaped.push(' '),
            char => escaped.push(char),
        }
    }
    escaped
}

/// A number with three digits that say something: `0.571`, `2.10`, `999`, `12,400`.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size < 0.000_5 => return "0".to_owned(),
        _ if value.fract() == 0.0 => 0,
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.099_5 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(whole, part)| (whole, Some(part)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("−", whole));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let fraction = fraction.map(|part| format!(".{part}")).unwrap_or_default();
    format!("{sign}{grouped}{fraction}")
}

/// `2.10 [1.47..4.49]`: the median, and all that there was.
pub fn spread(summary: Option<Summary>) -> String {
    match summary {
        None => NOTHING.to_owned(),
        Some(all) if all.min == all.max => number(all.median),
        Some(all) => format!("{} [{}..{}]", number(all.median), number(all.min), number(all.max)),
    }
}

/// `3.7 ×`.
pub fn times(ratio: Option<f64>) -> String {
    ratio.map_or(NOTHING.to_owned(), |ratio| format!("{} ×", factor(ratio)))
}

/// A ratio with two digits that say something.
pub fn factor(ratio: f64) -> String {
    match ratio {
        size if size >= 9.95 => number(size.round()),
        size if size >= 0.095 => format!("{size:.1}"),
        size if size >= 0.000_5 => number(size),
        size if size > 0.0 => "< 0.001".to_owned(),
        _ => "0".to_owned(),
    }
}

/// Lines of prose are at most this long.
const WIDTH: usize = 120;

/// A page whose paragraphs and lists are broken into lines; tables, headings and code stay as they are.
pub fn wrapped(page: &str) -> String {
    let mut out = String::new();
    let mut code = false;
    for line in page.lines() {
        let fence = line.starts_with("```");
        code ^= fence;
        if code || fence || line.starts_with(['|', '#', '!']) {
            out.push_str(line);
        } else {
            wrap(&mut out, line);
        }
        out.push('\n');
    }
    out
}

fn wrap(out: &mut String, line: &str) {
    let indent = if line.starts_with("- ") { "  " } else { "" };
    let mut length = 0;
    for word in line.split(' ') {
        let size = word.chars().count();
        // What would begin a list or a heading does not begin a line.
        let begins = word.starts_with(['-', '+', '#', '>', '|', '=']) || word.ends_with(['.', ')']) && size < 4;
        if length > 0 && length + 1 + size > WIDTH && !begins {
            out.push('\n');
            out.push_str(indent);
            length = indent.len();
        } else if length > 0 {
            out.push(' ');
            length += 1;
        }
        out.push_str(word);
        length += size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_they_are_worth() {
        let cases = [
            (0.0, "0"),
            (0.000_1, "0"),
            (0.012_3, "0.012"),
            (0.5712, "0.57"),
            (2.1, "2.10"),
            (7.0, "7"),
            (15.64, "15.6"),
            (999.24, "999"),
            (1234.5, "1,234"),
            (12_345_678.0, "12,345,678"),
            (-1.62, "−1.62"),
            (-1234.0, "−1,234"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected, "{value}");
        }
    }

    #[test]
    fn ratios_are_short() {
        for (ratio, expected) in [
            (1.0, "1.0"),
            (0.51, "0.5"),
            (13.1, "13"),
            (1234.5, "1,235"),
            (0.012, "0.012"),
            (0.000_2, "< 0.001"),
            (0.0, "0"),
        ] {
            assert_eq!(factor(ratio), expected);
        }
        assert_eq!(times(None), "–");
    }

    #[test]
    fn no_text_breaks_a_table() {
        let cases = [
            ("a|b", "a\\|b"),
            ("2.10 [1.47..4.49]", "2.10 [1.47..4.49]"),
            ("[a](b)", "[a]\\(b)"),
            ("2 * 3", "2 \\* 3"),
            ("<script>", "&lt;script&gt;"),
            ("two\nlines", "two lines"),
            ("x_y & `z`", "x_y &amp; `z`"),
            ("HUP → done", "HUP → done"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn a_table_is_filled_up_or_is_a_sentence() {
        let mut table = Table::new(["candidate", "ms"]);
        assert_eq!(table.render(1), "Not measured in this run.\n\n");
        table.row(vec!["a|b".to_owned()]);
        assert_eq!(table.render(1), "| candidate | ms |\n|---|---:|\n| a\\|b | – |\n\n");
    }

    #[test]
    fn prose_is_broken_and_nothing_else() {
        let word = "abcdefghi ".repeat(13);
        let (long, first) = (word.trim_end(), "abcdefghi ".repeat(12));
        let cases = [
            (format!("{long}\n\nend"), format!("{}\nabcdefghi\n\nend\n", first.trim_end())),
            (format!("- {long}"), format!("- {}\n  abcdefghi abcdefghi\n", "abcdefghi ".repeat(11).trim_end())),
            (format!("| {long}"), format!("| {long}\n")),
            (format!("```\n{long}\n```\n{long}"), format!("```\n{long}\n```\n{}\nabcdefghi\n", first.trim_end())),
            (format!("{first}- a"), format!("{first}-\na\n")),
        ];
        for (page, expected) in cases {
            assert_eq!(wrapped(&page), expected);
        }
    }

    #[test]
    fn a_spread_is_shown_if_there_is_one() {
        let cases: [(&[f64], &str); 3] = [(&[], "–"), (&[5.0, 5.0], "5"), (&[1.5, 2.5, 9.0], "2.50 [1.50..9]")];
        for (samples, expected) in cases {
            assert_eq!(spread(Summary::of(samples)), expected);
        }
    }
}
