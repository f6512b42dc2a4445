//! Tables for people: a header, columns of the same width, numbers to the right. Pure.

use crate::shown_text::printable;

/// The columns between two cells.
const GAP: &str = "  ";

/// A table, as its lines. Without rows, it has no line at all. A cell may have any text.
#[must_use]
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| printable(cell).into_owned())).collect();
    let is_number = |cell: &str| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
    let columns: [(usize, bool); N] = std::array::from_fn(|column| {
        let cells = || rows.iter().filter_map(|row| row.get(column));
        let width = cells().map(|cell| cell.chars().count()).max().unwrap_or_default();
        let title = header.get(column).map_or(0, |title| title.len());
        let is_numeric = cells().all(|cell| cell.is_empty() || is_number(cell)) && cells().any(|cell| is_number(cell));
        (width.max(title), is_numeric)
    });
    let line = |cells: [&str; N]| {
        let cells: Vec<String> = cells
            .iter()
            .zip(columns)
            .map(
                |(cell, (width, is_numeric))| {
                    if is_numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        cells.join(GAP).trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(header)).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_at_the_right() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let rows = [row(["é", "7", "first"]), row(["recruiters/1", "1200", ""])];
        assert_eq!(
            table(["ID", "ATTEMPTS", "DETAIL"], &rows),
            ["ID            ATTEMPTS  DETAIL", "é                    7  first", "recruiters/1      1200"]
        );
        assert_eq!(table(["ID"], &[]), [""; 0]);
    }
}
