//! The templates and the values that they take. The engine escapes values in HTML. Text needs no escaping, because its
//! values are single lines (`compose::clean`).

use super::email::Email;

macro_rules! template {
    ($name:ident, $path:literal, $escape:literal) => {
        #[derive(askama::Template)]
        #[template(path = $path, escape = $escape, config = "src/mail/templates/askama.toml")]
        pub(super) struct $name<'a> {
            pub(super) email: &'a Email,
        }
    };
}

template!(ReminderHtml, "reminder.mjml", "html");
template!(ReminderText, "reminder.txt", "none");
template!(IntroductionHtml, "introduction.mjml", "html");
template!(IntroductionText, "introduction.txt", "none");
