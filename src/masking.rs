//! Masks in texts that leave the installation: e-mail addresses, secrets, and paths of the machine. They look for what
//! commonly holds one, and rather mask too much: no rule finds every secret, so a person reads such a text before it is sent.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// An address of the web or of a database. Its path and its query may hold a secret as well as its user info.
static URL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(?i)\b([a-z][a-z0-9+.-]*)://([^\s"'<>`]*)"#).ok());
/// A name that tells of a secret, with its value.
static SECRET: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let names = "pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|authorization|credential|cookie|signature";
    let named =
        format!(r#"(?i)\b([\w.-]*(?:{names})[\w.-]*)(\\?"?\s*[:=]\s*\\?"?)(?:(?:bearer|basic)\s+)?[^\s"',;&}}\\]+"#);
    Regex::new(&named).ok()
});
/// An e-mail address, in the spellings that logs and addresses of the web give to `@`.
static ADDRESS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let part = r#"[^\s"<>()\[\]{}`]*"#;
    Regex::new(&format!(r#"(?i)(?:"[^":,{{}}\[\]]*")?{part}(?:@|＠|%(?:25)*40|&#(?:64|x40);|\\u0040){part}"#)).ok()
});
/// An absolute path behind a blank, a quotation mark or an equals sign.
static PATH: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(^|[\s"'`=(<])/[^\s"'`)>:,;]+"#).ok());

/// The text without secrets and e-mail addresses.
pub(crate) fn without_addresses(text: &str) -> String {
    let text = replaced(&URL, text, |found| {
        let (scheme, rest) = (part(found, 1), part(found, 2));
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let has_user = rest.contains('@') || rest.contains("%40") || scheme.to_lowercase().starts_with("mongodb");
        match (has_user, host.len() < rest.trim_end_matches(['/', '.', ',', ';', ':', ')']).len()) {
            (true, _) => format!("{scheme}://[hidden]"),
            (false, true) => format!("{scheme}://{host}/[hidden]"),
            (false, false) => format!("{scheme}://{rest}"),
        }
    });
    let text = replaced(&SECRET, &text, |found| format!("{}{}[hidden]", part(found, 1), part(found, 2)));
    replaced(&ADDRESS, &text, |_| "[address]".to_owned())
}

/// The same, with a mark also in place of each absolute path, which tells about the machine and its users.
pub(crate) fn without_addresses_and_paths(text: &str) -> String {
    replaced(&PATH, &without_addresses(text), |found| format!("{}[path]", part(found, 1)))
}

fn part<'t>(found: &Captures<'t>, number: usize) -> &'t str {
    found.get(number).map_or("", |part| part.as_str())
}

fn replaced(pattern: &Option<Regex>, text: &str, with: impl Fn(&Captures<'_>) -> String) -> String {
    // A unit test makes each pattern.
    pattern.as_ref().map_or_else(|| "[hidden]".to_owned(), |pattern| pattern.replace_all(text, with).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_secrets_are_masked_in_every_spelling_and_the_rest_stays() {
        for (text, expected) in [
            ("to=<a.b@example.com>, 3 left", "to=<[address]>, 3 left"),
            (r#"{"to":"a%40example.com"}"#, r#"{"to":"[address]"}"#),
            (r#"{"to":"a\u0040example.com","n":1}"#, r#"{"to":"[address]","n":1}"#),
            ("jean%2540example.com jean&#64;example.com jean＠example.com", "[address] [address] [address]"),
            (r#"from "jean dupont"@example.com: no"#, "from [address] no"),
            ("o'dupont@example.com, jean=dupont@example.com", "[address] [address]"),
            ("mongodb://u:hun,ter2@host/db is down", "mongodb://[hidden] is down"),
            ("mongodb://user:pw is wrong", "mongodb://[hidden] is wrong"),
            ("https://hooks.slack.com/services/T000/B000/x failed", "https://hooks.slack.com/[hidden] failed"),
            ("see https://host/cancel?token=abc.", "see https://host/[hidden]"),
            ("https://host is down", "https://host is down"),
            (
                "tlsCertificateKeyFilePassword=x AWS_SESSION_TOKEN:y",
                "tlsCertificateKeyFilePassword=[hidden] AWS_SESSION_TOKEN:[hidden]",
            ),
            ("Authorization: Bearer abc.def", "Authorization: [hidden]"),
            (r#"{"password":"abc","n":1}"#, r#"{"password":"[hidden]","n":1}"#),
            ("nothing to hide\n", "nothing to hide\n"),
        ] {
            assert_eq!(without_addresses(text), expected);
        }
    }

    #[test]
    fn absolute_paths_are_masked_too() {
        for (text, expected) in [
            ("cannot write `/var/lib/somebody/x`: denied", "cannot write `[path]`: denied"),
            ("a@b.c read file=/etc/x", "[address] read file=[path]"),
            ("https://host and 1 / 2", "https://host and 1 / 2"),
        ] {
            assert_eq!(without_addresses_and_paths(text), expected);
        }
    }
}
