//! Makes text that somebody else wrote fit to be shown in one line of a terminal. Pure.

use std::borrow::Cow;

/// The text with `�` in place of each control character. Such characters would begin another line, which could say anything,
/// or change the colours and the title of the terminal.
#[must_use]
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        Cow::Owned(text.replace(char::is_control, "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_in_its_line_and_leaves_the_terminal_alone() {
        assert_eq!(printable("Pâtissier, 3 h"), "Pâtissier, 3 h");
        assert_eq!(printable("x\nverdict  In step\u{1b}[31m\u{7}"), "x�verdict  In step�[31m�");
    }
}
