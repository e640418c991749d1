//! Lines and tables that fit the terminal's width.
//!
//! A line breaks only at spaces, so that no address or command is cut: a word that is wider than the terminal stays whole.
//! What follows a break stands under the text that it continues: in a table, under its column.

use super::phrase::{PLAIN, Phrase, Word};

/// No limit: where stdout is no terminal.
pub const UNLIMITED: usize = usize::MAX;

/// However narrow the terminal is, text gets so many columns.
const LEAST: usize = 24;

/// And a table's last cell so many.
const LEAST_IN_CELL: usize = 12;

/// Where a table's last cell begins that does not fit its column.
const FALLBACK: usize = 6;

/// What stands before advice; its continuation stands behind it.
const ADVICE_INDENT: &str = "  ↳ ";

/// Breaks a phrase into lines of at most `width` columns, and those after the first have `hanging` columns less; none has
/// fewer than `least`.
fn wrap(phrase: &Phrase, width: usize, hanging: usize, least: usize) -> Vec<Phrase> {
    let width = width.max(least);
    if phrase.width() <= width {
        return vec![phrase.clone()];
    }
    let mut lines = Vec::new();
    let mut line = Phrase::new();
    for Word { spaces, text } in phrase.words() {
        let room = if lines.is_empty() { width } else { width.saturating_sub(hanging).max(least) };
        if !line.is_empty() && line.width() + spaces + text.width() > room {
            lines.push(std::mem::take(&mut line));
        } else if spaces > 0 {
            line.push(PLAIN, " ".repeat(spaces));
        }
        line.join(text);
    }
    lines.push(line);
    lines
}

/// How far the continuation of a phrase is indented.
fn hanging(phrase: &Phrase) -> usize {
    let mut start = String::new();
    phrase.pieces().for_each(|(_, text)| start.push_str(text));
    if start.starts_with(ADVICE_INDENT) { ADVICE_INDENT.chars().count() } else { 0 }
}

/// Writes a line behind `indent` spaces; its continuation is indented by `further` columns more.
pub(super) fn write_line(phrase: &Phrase, indent: usize, further: usize, width: usize, out: &mut String) {
    let further = match hanging(phrase) {
        0 => further,
        hanging => hanging,
    };
    for (index, line) in wrap(phrase, width.saturating_sub(indent), further, LEAST).iter().enumerate() {
        line.write_line(if index == 0 { indent } else { indent + further }, out);
    }
}

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Writes rows with their columns aligned, two spaces apart, behind two spaces. Columns that are empty in every row take no
/// room, no line ends in spaces, and the last column breaks at `width`.
pub(super) fn write_table(rows: &[Vec<Phrase>], align: &[Align], width: usize, out: &mut String) {
    let widths: Vec<usize> = (0..align.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(Phrase::width).max().unwrap_or(0))
        .collect();
    for row in rows {
        let last = row.iter().rposition(|cell| !cell.is_empty());
        let mut at = 0;
        for (column, cell) in row.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
            let (Some(&column_width), Some(&align)) = (widths.get(column), align.get(column)) else {
                continue;
            };
            if column_width == 0 {
                continue;
            }
            out.push_str("  ");
            let padding = " ".repeat(column_width - cell.width());
            if align == Align::Right {
                out.push_str(&padding);
            }
            if Some(column) == last && align == Align::Left {
                write_cell(cell, at + 2, width, out);
            } else {
                cell.write(out);
                if Some(column) != last {
                    out.push_str(if align == Align::Left { &padding } else { "" });
                }
            }
            at += 2 + column_width;
        }
        out.push('\n');
    }
}

/// Writes the last cell of a row, which begins at this column.
fn write_cell(cell: &Phrase, at: usize, width: usize, out: &mut String) {
    let further = hanging(cell);
    let widest = cell.words().iter().map(|word| word.text.width()).max().unwrap_or(0);
    let room = width.saturating_sub(at).max(LEAST_IN_CELL);
    // Advice is prose: in a narrow column it would be a ribbon.
    let least = if further > 0 { LEAST } else { LEAST_IN_CELL };
    let is_narrow = width.saturating_sub(at + further) < least || widest.saturating_add(further) > room;
    let at = if at > FALLBACK && cell.width() > room && is_narrow {
        // A name that is wider than its column has a line of its own.
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
        out.push_str(&" ".repeat(FALLBACK));
        FALLBACK
    } else {
        at
    };
    for (index, line) in wrap(cell, width.saturating_sub(at), further, LEAST_IN_CELL).iter().enumerate() {
        if index > 0 {
            out.push('\n');
            out.push_str(&" ".repeat(at + further));
        }
        line.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::phrase::{BAD, CHANGED};

    fn lines(phrase: &Phrase, indent: usize, further: usize, width: usize) -> Vec<String> {
        let mut out = String::new();
        write_line(phrase, indent, further, width, &mut out);
        anstream::adapter::strip_str(&out).to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_breaks_at_spaces_only_and_keeps_its_indent() {
        let phrase = Phrase::new()
            .with(PLAIN, "from  ")
            .with(BAD, "[fd00:10:42::10]:34282")
            .with(CHANGED, ",")
            .with(PLAIN, " to [fd00:10:43::23]:8080  done");
        assert_eq!(
            lines(&phrase, 2, 4, 34),
            ["  from  [fd00:10:42::10]:34282, to", "      [fd00:10:43::23]:8080  done"]
        );
        assert_eq!(lines(&phrase, 0, 0, UNLIMITED).len(), 1);
        assert_eq!(lines(&phrase, 0, 0, 5).len(), 4, "some room is left on any terminal");
    }

    #[test]
    fn advice_continues_behind_its_arrow() {
        let phrase =
            Phrase::new().with(PLAIN, ADVICE_INDENT).with(PLAIN, "nothing listens on tcp port 81 in pod2");
        assert_eq!(lines(&phrase, 0, 0, 30), ["  ↳ nothing listens on tcp", "    port 81 in pod2"]);
    }

    #[test]
    fn the_last_column_of_a_table_breaks_under_itself() {
        let cell = |text: &str| Phrase::new().with(PLAIN, text);
        let rows = [
            vec![cell("node1"), cell("7"), cell("encapsulated by a tunnel to somewhere")],
            vec![cell(""), cell("10"), cell("short")],
        ];
        let mut out = String::new();
        write_table(&rows, &[Align::Left, Align::Right, Align::Left], 40, &mut out);
        assert_eq!(
            out,
            "  node1   7  encapsulated by a tunnel to\n             somewhere\n         10  short\n"
        );
        // However little room its column has.
        out.clear();
        write_table(
            &[vec![cell("a-long-name-of-a-node"), cell("7"), cell("by a tunnel to a node")]],
            &[Align::Left, Align::Right, Align::Left],
            40,
            &mut out,
        );
        assert_eq!(out, "  a-long-name-of-a-node  7  by a tunnel\n                            to a node\n");
        let rows = [vec![cell("node1"), cell("7"), cell("a-pod-with-a-name-that-is-long-55d8bd8c6b")]];
        out.clear();
        write_table(&rows, &[Align::Left, Align::Right, Align::Left], 50, &mut out);
        assert_eq!(out, "  node1  7\n      a-pod-with-a-name-that-is-long-55d8bd8c6b\n");
    }
}
