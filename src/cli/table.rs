//! Aligned columns: with lines between them on a terminal, bare where a program reads.

use std::io::{IsTerminal, stdout};

use comfy_table::{CellAlignment, Table, presets};

use super::screen::plain;

/// A table as text, columns of numbers aligned to the right. An empty `header` leaves the header out.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    render(header, rows, stdout().is_terminal())
}

/// An optional value as a cell.
pub(super) fn cell<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), T::to_string)
}

fn render(header: &[&str], rows: &[Vec<String>], lines: bool) -> String {
    let mut table = Table::new();
    table.load_style(if lines { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    for row in rows {
        table.add_row(row.iter().map(|text| plain(text)).collect::<Vec<_>>());
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        if !lines {
            column.set_padding((0, 2));
        }
        let is_number = |row: &Vec<String>| row.get(at).is_some_and(|text| text.parse::<i64>().is_ok());
        if !rows.is_empty() && rows.iter().all(is_number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let rows = [vec!["a".to_owned(), "5".to_owned()], vec!["long\u{7}".to_owned(), "1000".to_owned()]];
        assert_eq!(render(&["name", "left"], &rows, false), "name   left\na         5\nlong   1000");
        assert!(render(&["name", "left"], &rows, true).contains('│'));
        assert_eq!(render(&[], &[vec!["a".to_owned(), cell::<u8>(None)]], false), "a  -");
    }
}
