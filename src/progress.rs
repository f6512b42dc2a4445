//! What a command shows on standard error while it works: a bar on a terminal, and single lines for people.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike, WeakProgressBar};

/// The columns at the right that a bar leaves free. The terminal writes `^C` behind the bar; on the next line, nothing
/// would clear the bar any more.
const FREE: u16 = 4;
/// The greatest number of pictures of a bar in a second.
const PICTURES: u8 = 10;

/// The bar on the terminal of this process. The lines of the log go around it, wherever they come from.
static ON_TERMINAL: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// A bar over `total` steps with `text` beside it, a template of `indicatif`. The bar takes the width that the text
/// leaves, so that it never wraps. Hidden outside a terminal.
#[must_use]
pub(crate) fn bar(total: u64, text: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let terminal = Box::new(BarTerminal(Term::stderr()));
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::term_like_with_hz(terminal, PICTURES));
    if let Ok(style) = ProgressStyle::with_template(&format!("{{wide_bar}} {text}")) {
        bar.set_style(style);
    }
    *ON_TERMINAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.downgrade());
    bar
}

/// Writes to the terminal while no bar stands there. The bar comes back below what was written.
fn beside_bar<T>(write: impl FnOnce() -> T) -> T {
    let bar = ON_TERMINAL.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(WeakProgressBar::upgrade);
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Standard error for whole lines of the log, which do not garble a bar.
#[derive(Debug)]
pub(crate) struct LinesBesideBar;

impl Write for LinesBesideBar {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        beside_bar(|| io::stderr().write_all(lines)).map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The terminal of standard error, less the columns that stay free.
#[derive(Debug)]
struct BarTerminal(Term);

impl TermLike for BarTerminal {
    fn width(&self) -> u16 {
        let (_, columns) = self.0.size();
        columns.saturating_sub(FREE)
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_left(n)
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.0.write_line(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Tells a person what the command does now. The line is no part of the command's output.
#[expect(clippy::print_stderr, reason = "a line for the person at the terminal")]
pub(crate) fn tell(line: &str) {
    beside_bar(|| eprintln!("{line}"));
}
