//! The screen of `status --watch`: drawn again in place on the terminal's other screen, never wider or higher than it.

use std::io::{self, Write as _};

use console::Term;

use super::lines::Line;

/// Goes to the other screen and hides the cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
/// Shows the cursor and goes back.
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// The first line of the screen.
const HOME: &str = "\u{1b}[H";
/// Clears the rest of a line, and what is below the last one.
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// The other screen of the terminal. Its end leaves the terminal as it was.
#[derive(Debug)]
pub(super) struct Screen {
    colors: bool,
}

impl Screen {
    pub(super) fn enter(colors: bool) -> io::Result<Self> {
        write(ENTER)?;
        Ok(Self { colors })
    }

    /// Draws the lines. Those that do not fit are left out, and long ones are cut.
    pub(super) fn draw(&self, lines: &[Line]) -> io::Result<()> {
        let (rows, columns) = Term::stdout().size();
        write(&frame(lines, (rows.into(), columns.into()), self.colors))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that is gone.
        let _ = write(LEAVE);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// One picture. No line ends the last row, because that would scroll the screen.
fn frame(lines: &[Line], (rows, columns): (usize, usize), colors: bool) -> String {
    let shown = lines.iter().take(rows).map(|line| format!("{}{CLEAR_LINE}", drawn(line, columns, colors)));
    let shown: Vec<String> = shown.collect();
    format!("{HOME}{}{CLEAR_BELOW}", shown.join("\r\n"))
}

/// The line, cut to `columns`, in its colour.
pub(super) fn drawn(line: &Line, columns: usize, colors: bool) -> String {
    let text = match line.text.char_indices().nth(columns) {
        Some(_) => line.text.chars().take(columns.saturating_sub(1)).chain(['…']).collect(),
        None => line.text.clone(),
    };
    match line.tone.color().filter(|_| colors) {
        Some(color) => format!("\u{1b}[{color}m{text}\u{1b}[0m"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::Tone;
    use super::*;

    #[test]
    fn a_picture_has_no_more_rows_and_columns_than_the_terminal() {
        let line = |text: &str, tone| Line { text: text.to_owned(), tone };
        let lines = [line("verdict  ok", Tone::Good), line("phase", Tone::Plain), line("leader", Tone::Plain)];
        assert_eq!(frame(&lines, (2, 8), false), "\u{1b}[Hverdict…\u{1b}[K\r\nphase\u{1b}[K\u{1b}[J");
        assert_eq!(drawn(&lines[0], 80, true), "\u{1b}[32mverdict  ok\u{1b}[0m");
    }
}
