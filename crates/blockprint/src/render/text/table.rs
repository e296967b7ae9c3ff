//! A table in columns, for lists.

/// Rows of cells below a head. A column without any content is left out.
pub(super) struct Table<const N: usize> {
    head: [&'static str; N],
    is_right: [bool; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// No rows yet. Columns of `right` are for numbers.
    pub(super) fn new(head: [&'static str; N], right: &[&str]) -> Self {
        Table { head, is_right: head.map(|name| right.contains(&name)), rows: Vec::new() }
    }

    /// One more row.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// As lines, without blanks at their ends.
    pub(super) fn lines(&self) -> String {
        let columns: Vec<usize> =
            (0..N).filter(|&at| self.rows.iter().any(|row| !row[at].is_empty())).collect();
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.max().unwrap_or(0).max(self.head[at].len())
        };
        let widths: Vec<usize> = columns.iter().map(|&at| width(at)).collect();
        let line = |cells: &[&str]| {
            let padded = columns.iter().zip(&widths).map(|(&at, &width)| match self.is_right[at] {
                true => format!("{:>width$}", cells[at]),
                false => format!("{:<width$}", cells[at]),
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
        };
        let rows = self.rows.iter().map(|row| line(&row.each_ref().map(String::as_str)));
        std::iter::once(line(&self.head)).chain(rows).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_heads_and_empty_ones_are_left_out() {
        let mut table = Table::new(["NAME", "SIZE", "NOTE", "WHERE"], &["SIZE"]);
        table.row(["é".into(), "10".into(), String::new(), String::new()]);
        table.row(["longer".into(), "9".into(), String::new(), "/".into()]);
        assert_eq!(table.lines(), "NAME    SIZE  WHERE\né         10\nlonger     9  /");
    }
}
