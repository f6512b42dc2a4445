//! Tests of `compose`. The folder `snapshots/` has the messages as they last looked. After an intended change, look at
//! `emails preview`, then write the snapshots again with `UPDATE_SNAPSHOTS=1 cargo xtask test -- the_messages_are`.

use proptest::prelude::*;

use super::super::sample;
use super::*;

#[test]
#[expect(clippy::disallowed_methods, reason = "a developer asks for new snapshots")]
fn the_messages_are_as_they_were_last_looked_at() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mail/snapshots");
    for template in Template::ALL {
        let Composed { html, text, subject } = compose(&sample::email(template)).unwrap();
        let name = template.name();
        for (file, now) in [(format!("{name}.html"), html), (format!("{name}.txt"), format!("{subject}\n\n{text}"))] {
            let path = folder.join(&file);
            if std::env::var("UPDATE_SNAPSHOTS").is_ok() {
                std::fs::write(&path, &now).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(kept == now, "{file} is not as it was; see the top of compose_tests.rs");
        }
    }
}

fn with_title(title: &str) -> Email {
    let mut email = sample::email(Template::RemindJ1);
    email.establishments[0].offers[0].title = title.to_owned();
    email
}

#[test]
fn a_script_in_a_title_is_shown_as_text() {
    let composed = compose(&with_title("<script>alert('&')</script>")).unwrap();
    assert!(!composed.html.contains("<script"), "{}", composed.html);
    assert!(composed.html.contains("&lt;script&gt;") || composed.html.contains("&#60;script&#62;"));
    assert!(composed.text.contains("<script>alert('&')</script>"), "text is text: {}", composed.text);
}

#[test]
fn a_value_cannot_end_an_attribute_or_a_block() {
    let mut email = with_title("</mj-text></mj-column>{{ email.person }}<!-- ]]> <mj-raw>");
    email.space = "https://example.com/\" onclick=\"x".to_owned();
    let composed = compose(&email).unwrap();
    assert!(!composed.html.contains("\" onclick"), "{}", composed.html);
    assert!(composed.html.contains("{{ email.person }}"), "what looks like a template stays as it is");
}

#[test]
fn an_offer_without_occupation_and_link_leaves_their_lines_out() {
    let mut email = sample::email(Template::RemindJ1);
    let offer = &mut email.establishments[0].offers[0];
    (offer.appellation, offer.url) = (None, None);
    let Composed { html, text, .. } = compose(&email).unwrap();
    assert!(!html.contains("Métier") && !html.contains("Voir l"), "{html}");
    assert!(!text.contains("Métier") && !text.contains("\n\n\n"), "{text}");
}

#[test]
fn a_value_is_one_line_without_control_characters() {
    assert_eq!(clean("  Eve\r\nBcc: all@example.com\0\u{2028}\u{202e}x "), "Eve Bcc: all@example.com x");
    assert_eq!(clean("Zoé O'Neil 🍞"), "Zoé O'Neil 🍞");
}

#[test]
fn only_links_of_the_web_are_links() {
    assert_eq!(link("https://example.com/a b").as_deref(), Some("https://example.com/a%20b"));
    for other in ["javascript:alert(1)", "data:text/html,x", "/relative", "", "mailto:a@example.com"] {
        assert_eq!(link(other), None, "{other}");
    }
}

#[test]
fn a_day_is_that_of_paris() {
    let at = |text: &str| DateTime::parse_rfc3339_str(text).unwrap();
    assert_eq!(day(at("2026-07-31T21:59:59.999Z")), "31/07/2026");
    assert_eq!(day(at("2026-07-31T22:00:00.000Z")), "01/08/2026");
    assert_eq!(iso_day(at("2026-12-31T22:59:59.999Z")), "2026-12-31");
    assert_eq!(iso_day(at("2026-12-31T23:00:00.000Z")), "2027-01-01");
}

#[test]
fn every_character_that_there_is_can_stand_in_every_text_of_a_message() {
    for block in (0..=u32::from(char::MAX)).step_by(0x1000) {
        let all: String = (block..block + 0x1000).filter_map(char::from_u32).collect();
        assert!(compose(&with_texts(&all, Some(&all))).is_ok(), "from U+{block:04X} on");
    }
    for forbidden in ["\0", "\u{1}", "\u{b}", "\u{c}", "\u{1f}", "\u{fffe}", "\u{ffff}", "\u{fdd0}", "\u{10ffff}"] {
        let composed = compose(&with_texts(&format!("Bou{forbidden}langer"), None)).unwrap();
        assert!(!composed.html.contains(forbidden) && !composed.text.contains(forbidden), "{forbidden:?}");
    }
    assert_eq!(clean("Bou\u{fffe}langer \u{ffff}"), "Boulanger");
}

/// A message with the same value in every text.
fn with_texts(value: &str, url: Option<&str>) -> Email {
    let mut email = with_title(value);
    (email.person, email.establishments[0].name) = (value.to_owned(), value.to_owned());
    let offer = &mut email.establishments[0].offers[0];
    offer.appellation = Some(value.to_owned());
    for text in [&mut offer.contracts, &mut offer.level, &mut offer.start, &mut offer.published] {
        value.clone_into(text);
    }
    offer.url = url.and_then(link);
    email
}

proptest! {
    #[test]
    fn no_value_keeps_a_message_from_being_written(value in any::<String>(), url in ".*") {
        let email = with_texts(&value, Some(&url));
        let composed = compose(&email).unwrap();
        prop_assert!(!composed.html.contains("<script"));
    }
}
