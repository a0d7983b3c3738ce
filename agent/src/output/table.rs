//! Tables without rules that fit a width. Pure.
//!
//! Columns get what they need; where that is too much, the widest give way and their text wraps. Colours take no room.

use console::measure_text_width;

/// Spaces between two columns.
const GAP: usize = 2;
/// No column becomes narrower than this for the sake of others.
const LEAST: usize = 8;

/// Lays out a table; every line is at most `width` columns, if there is any way to do that.
pub(super) fn lines(header: &[&str], rows: &[Vec<String>], width: usize) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|name| name.to_uppercase()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let natural: Vec<usize> = (0..header.len())
        .map(|column| {
            all()
                .filter_map(|row| row.get(column))
                .map(|cell| needs(cell))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let widths = fit(
        natural,
        width.saturating_sub(GAP * header.len().saturating_sub(1)),
    );
    all().flat_map(|row| row_lines(row, &widths)).collect()
}

fn needs(cell: &str) -> usize {
    cell.split('\n').map(measure_text_width).max().unwrap_or(0)
}

/// Takes from the widest column, one by one, until all fit.
fn fit(mut widths: Vec<usize>, room: usize) -> Vec<usize> {
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max().filter(|widest| **widest > LEAST) {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    widths
}

fn row_lines(row: &[String], widths: &[usize]) -> Vec<String> {
    let cells: Vec<Vec<String>> = row
        .iter()
        .zip(widths)
        .map(|(cell, width)| broken(cell, *width))
        .collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    (0..height)
        .map(|index| {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                let text = cell.get(index).map_or("", String::as_str);
                line.push_str(text);
                let padding = width.saturating_sub(measure_text_width(text)) + GAP;
                line.extend(std::iter::repeat_n(' ', padding));
            }
            line.truncate(line.trim_end().len());
            line
        })
        .collect()
}

/// Wraps a cell; a word that is wider than its column is broken.
fn broken(cell: &str, width: usize) -> Vec<String> {
    wrap(cell, width)
        .into_iter()
        .flat_map(|line| chunks(line, width))
        .collect()
}

fn chunks(line: String, width: usize) -> Vec<String> {
    if measure_text_width(&line) <= width || width == 0 {
        return vec![line];
    }
    let characters: Vec<char> = line.chars().collect();
    characters
        .chunks(width)
        .map(|chunk| chunk.iter().collect())
        .collect()
}

/// Breaks at spaces; a word longer than the room (a digest, a path) stays whole, so that it can be copied.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.trim_end().split(' ') {
            if !line.is_empty() && measure_text_width(&line) + 1 + measure_text_width(word) > room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_wraps_at_spaces_and_keeps_long_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("sha256:0123456789 x", 5), ["sha256:0123456789", "x"]);
        assert_eq!(wrap("a\nb", 10), ["a", "b"]);
        assert_eq!(wrap("", 10), [""]);
    }

    #[test]
    fn the_widest_column_gives_way() {
        let rows = [
            vec!["nova".to_owned(), "one two three".to_owned()],
            vec!["b".to_owned(), "x".to_owned()],
        ];
        assert_eq!(
            lines(&["name", "why"], &rows, 14),
            ["NAME  WHY", "nova  one two", "      three", "b     x"]
        );
        assert_eq!(lines(&["name", "why"], &rows, 80)[1], "nova  one two three");
    }

    #[test]
    fn colours_take_no_room() {
        let plain = [vec!["up".to_owned(), "x".to_owned()]];
        let coloured = [vec!["\x1b[32mup\x1b[0m".to_owned(), "x".to_owned()]];
        let strip = |line: &String| console::strip_ansi_codes(line).into_owned();
        let seen: Vec<String> = lines(&["state", "y"], &coloured, 80).iter().map(strip).collect();
        assert_eq!(seen, lines(&["state", "y"], &plain, 80));
    }

    proptest! {
        #[test]
        fn any_table_fits(
            rows in prop::collection::vec(prop::collection::vec("[a-z0-9:/ ]{0,90}", 5), 0..8),
            width in 60_usize..120,
        ) {
            for line in lines(&["a", "b", "c", "d", "e"], &rows, width) {
                prop_assert!(measure_text_width(&line) <= width, "{line}");
                prop_assert_eq!(line.trim_end(), &line);
            }
        }
    }
}
