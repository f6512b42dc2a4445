//! Masks in texts that leave the installation: e-mail addresses, credentials and paths of the machine.

/// The text with a mark in place of each word that has an `@`: an e-mail address, or a URL with credentials.
pub(crate) fn without_addresses(text: &str) -> String {
    masked(text, |word| (word.contains('@') || word.contains("%40")).then_some("[address]"))
}

/// The same, with a mark also in place of each absolute path, which tells about the machine and its users.
pub(crate) fn without_addresses_and_paths(text: &str) -> String {
    masked(&without_addresses(text), |word| word.strip_prefix('/').filter(|rest| !rest.is_empty()).map(|_| "[path]"))
}

/// The text with what `mark` gives in place of each word for which it gives something.
fn masked(text: &str, mark: impl Fn(&str) -> Option<&'static str>) -> String {
    let separates = |character: char| character.is_whitespace() || "\"'`<>()[]{},;=|".contains(character);
    let mut masked = String::with_capacity(text.len());
    for piece in text.split_inclusive(separates) {
        let word = piece.strip_suffix(separates).unwrap_or(piece);
        masked.push_str(mark(word).unwrap_or(word));
        masked.push_str(piece.strip_prefix(word).unwrap_or_default());
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_an_at_sign_are_masked_and_the_rest_stays() {
        for (text, expected) in [
            ("to=<a.b@example.com>, 3 left", "to=<[address]>, 3 left"),
            (r#"{"to":"a%40example.com"}"#, r#"{"to":"[address]"}"#),
            ("mongodb://u:p@host/db is down", "[address] is down"),
            ("nothing to hide\n", "nothing to hide\n"),
        ] {
            assert_eq!(without_addresses(text), expected);
        }
    }

    #[test]
    fn absolute_paths_are_masked_too_and_urls_stay() {
        for (text, expected) in [
            ("cannot write `/var/lib/somebody/x`: denied", "cannot write `[path]`: denied"),
            ("a@b.c read file=/etc/x", "[address] read file=[path]"),
            ("https://host/path and 1 / 2", "https://host/path and 1 / 2"),
        ] {
            assert_eq!(without_addresses_and_paths(text), expected);
        }
    }
}
