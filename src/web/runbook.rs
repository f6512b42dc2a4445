//! The runbook as a page, so that a problem on the status page leads to what to do, also where nothing but the service can
//! be reached. Pure.

use std::sync::LazyLock;

use pulldown_cmark::{Event, Parser, Tag, TagEnd, html};

/// The page, rendered once.
pub(super) static PAGE: LazyLock<String> = LazyLock::new(|| page(include_str!("../../deploy/RUNBOOK.md")));

/// The anchor of a section.
#[must_use]
pub(super) fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-")
}

/// A document with an anchor at each heading. Links to other files of the repository are texts here.
fn page(markdown: &str) -> String {
    let mut events: Vec<Event<'_>> = Parser::new(markdown).filter(|event| !is_link_elsewhere(event)).collect();
    let mut is_open = Vec::new();
    events.retain(|event| match event {
        Event::Start(Tag::Link { .. }) => {
            is_open.push(());
            true
        }
        // The end of a link whose beginning was left out.
        Event::End(TagEnd::Link) => is_open.pop().is_some(),
        _ => true,
    });
    let names: Vec<Option<String>> = events.iter().skip(1).map(|next| text(next).map(anchor)).chain([None]).collect();
    for (event, name) in events.iter_mut().zip(names) {
        if let Event::Start(Tag::Heading { id, .. }) = event {
            *id = name.map(Into::into);
        }
    }
    let mut body = String::new();
    html::push_html(&mut body, events.into_iter());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>Runbook · stream-processor</title>\n<link rel=\"icon\" \
         href=\"/icon/ok.svg\" type=\"image/svg+xml\">\n<link rel=\"stylesheet\" \
         href=\"/style.css\">\n</head>\n<body>\n<header><p><a href=\"/\">Status page</a></p></header>\n\
         <main class=\"text\">\n{body}</main>\n</body>\n</html>\n"
    )
}

fn is_link_elsewhere(event: &Event<'_>) -> bool {
    matches!(event, Event::Start(Tag::Link { dest_url, .. }) if !dest_url.starts_with('#'))
}

fn text<'a>(event: &'a Event<'_>) -> Option<&'a str> {
    match event {
        Event::Text(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::verdict_state::VerdictState;

    #[test]
    fn every_section_that_a_problem_names_is_there() {
        for section in VerdictState::ALL.into_iter().filter_map(VerdictState::runbook) {
            assert!(PAGE.contains(&format!("<h2 id=\"{}\">{section}</h2>", anchor(section))), "{section}");
        }
    }

    #[test]
    fn links_to_other_files_are_texts() {
        let page = page("# One\n\nSee [the docs](../docs/a.md) and [two](#two).\n\n## Two\n");
        assert!(page.contains("See the docs and <a href=\"#two\">two</a>."), "{page}");
    }
}
