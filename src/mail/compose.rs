//! The contents of messages: subject, HTML and text, made from plain values. Control characters and line breaks are
//! removed from every value, and every value is escaped. Only links to the web are kept. Pure.

use askama::Template as _;
use bson::DateTime;
use chrono_tz::Europe::Paris;

use super::email::{Email, EmailOffer, Establishment, Footer, Template};
use super::template_values::{IntroductionHtml, IntroductionText, ReminderHtml, ReminderText};

/// A message that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Composed {
    pub subject: String,
    /// The part for mail programs that show HTML.
    pub html: String,
    /// The part for other mail programs.
    pub text: String,
}

/// The reason why a message cannot be composed. No known value causes one, because forbidden characters are removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComposeError {
    /// The template engine fails with these values.
    #[error("a template of e-mail cannot be filled: {0}")]
    Fill(#[from] askama::Error),
    /// The filled template is no MJML.
    #[error("a template of e-mail is not MJML: {0}")]
    Parse(#[from] mrml::prelude::parser::Error),
    /// The MJML cannot be turned into HTML.
    #[error("a template of e-mail cannot be rendered: {0}")]
    Render(#[from] mrml::prelude::render::Error),
}

/// Composes a message. The function cleans all values itself, so that no caller can forget to do so.
///
/// # Errors
/// A [`ComposeError`], which concerns this message alone.
pub(crate) fn compose(email: &Email) -> Result<Composed, ComposeError> {
    let email = &email.cleaned();
    let subject = email.subject();
    let (mjml, text) = match email.template {
        Template::RemindJ7 | Template::RemindJ1 => (ReminderHtml { email }.render()?, ReminderText { email }.render()?),
        Template::Introduction => (IntroductionHtml { email }.render()?, IntroductionText { email }.render()?),
    };
    let options = mrml::prelude::render::RenderOptions { disable_comments: true, ..Default::default() };
    let html = mrml::parse(mjml)?.element.render(&options)?;
    Ok(Composed { subject, html, text })
}

impl Email {
    fn cleaned(&self) -> Self {
        let establishments = self.establishments.iter().map(|establishment| Establishment {
            name: clean(&establishment.name),
            offers: establishment.offers.iter().map(EmailOffer::cleaned).collect(),
        });
        Self {
            template: self.template,
            person: clean(&self.person),
            establishments: establishments.collect(),
            space: clean(&self.space),
            now: self.now,
            footer: Footer {
                sender: clean(&self.footer.sender),
                contact: clean(&self.footer.contact),
                privacy: clean(&self.footer.privacy),
            },
        }
    }
}

impl EmailOffer {
    fn cleaned(&self) -> Self {
        Self {
            title: clean(&self.title),
            appellation: self.appellation.as_deref().map(clean),
            contracts: clean(&self.contracts),
            level: clean(&self.level),
            start: clean(&self.start),
            published: clean(&self.published),
            expires: self.expires,
            url: self.url.as_deref().map(clean),
            cancel: self.cancel.as_deref().map(clean),
            provided: self.provided.as_deref().map(clean),
            introduction: self.introduction.as_deref().map(clean),
        }
    }
}

/// A value as a message may contain it: one line, without control characters, without characters that XML 1.0 forbids,
/// and without noncharacters (XML 1.0, 2.2; Unicode, 23.7).
#[must_use]
pub(crate) fn clean(value: &str) -> String {
    let visible = |character: char| match character {
        character if character.is_control() || is_invisible(character) => ' ',
        character => character,
    };
    value
        .chars()
        .filter(|character| !is_noncharacter(*character))
        .map(visible)
        .collect::<String>()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// True for line and paragraph separators, marks that change the direction of text, and the byte order mark.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// True for U+FDD0 to U+FDEF, and for the last two code points of each plane, such as U+FFFE and U+FFFF.
fn is_noncharacter(character: char) -> bool {
    matches!(u32::from(character), 0xfdd0..=0xfdef) || u32::from(character) & 0xfffe == 0xfffe
}

/// The text as a link; `None` where the text is no URL of `http` or `https`.
#[must_use]
pub(crate) fn link(value: &str) -> Option<String> {
    let url = url::Url::parse(value.trim()).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.to_string())
}

/// The day in Paris, as DD/MM/YYYY.
#[must_use]
pub(crate) fn day(date: DateTime) -> String {
    let date = chrono::DateTime::from_timestamp_millis(date.timestamp_millis());
    date.map(|date| date.with_timezone(&Paris).format("%d/%m/%Y").to_string()).unwrap_or_default()
}

/// The day in Paris, as YYYY-MM-DD, for ids in the outbox.
#[must_use]
pub(crate) fn iso_day(date: DateTime) -> String {
    let date = chrono::DateTime::from_timestamp_millis(date.timestamp_millis());
    date.map(|date| date.with_timezone(&Paris).format("%Y-%m-%d").to_string()).unwrap_or_default()
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
