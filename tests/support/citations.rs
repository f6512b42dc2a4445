//! Citations of the specification: "spec 03, "Writing"" names a page of `docs/spec/` and a heading on it.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

/// The headings of each page, by the page's number.
pub(crate) struct Specification(BTreeMap<String, BTreeSet<String>>);

impl Specification {
    /// Of pages by their path.
    pub(crate) fn of<'a>(pages: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let numbered = pages.into_iter().filter_map(|(path, text)| {
            let number = path.rsplit('/').next()?.get(..2).filter(|number| number.parse::<u8>().is_ok())?;
            let headings =
                text.lines().filter(|line| line.starts_with('#')).map(|line| plain(line.trim_start_matches('#')));
            Some((number.to_owned(), headings.collect()))
        });
        Self(numbered.collect())
    }

    /// Citations in a text that name no page, or no heading of their page.
    pub(crate) fn wrong(&self, text: &str) -> Vec<String> {
        let comment = Regex::new(r"\n\s*(?://[/!]?|[-*#>])?\s*").unwrap();
        let text = comment.replace_all(text, " ");
        let citation =
            Regex::new(r#"\bspec (\d\d)(?:,? "([^"]*)"|, ([Gg]uarantee \d)|, (`[^`]*`|[A-Z]\S*))?"#).unwrap();
        let wrong = citation.captures_iter(&text).filter(|found| {
            let Some(headings) = self.0.get(&found[1]) else { return true };
            let quoted = found.get(2).map(|heading| headings.contains(&plain(heading.as_str())));
            let guarantee = found.get(3).map(|name| {
                let name = format!("{}:", plain(name.as_str()));
                headings.iter().any(|heading| heading.starts_with(&name))
            });
            // A heading stands in quotation marks: else nobody can tell where it ends.
            let unquoted = found.get(4).map(|_| false);
            !quoted.or(guarantee).or(unquoted).unwrap_or(true)
        });
        wrong.map(|found| found[0].to_owned()).collect()
    }
}

fn plain(heading: &str) -> String {
    heading.replace('`', "").trim().to_lowercase()
}
