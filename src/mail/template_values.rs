//! The templates and the values that they take. The engine escapes values in HTML. Text needs no escaping, because its
//! values are single lines (`compose::clean`).

use super::email::{Email, Template};

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

impl Email {
    fn is_plural(&self) -> bool {
        self.establishments.iter().map(|establishment| establishment.offers.len()).sum::<usize>() > 1
    }

    fn announcement(&self) -> &'static str {
        match (self.template, self.is_plural()) {
            (Template::RemindJ1, false) => "Votre offre d'alternance expire demain.",
            (Template::RemindJ1, true) => "Vos offres d'alternance expirent demain.",
            (_, false) => "Votre offre d'alternance expire dans 7 jours.",
            (_, true) => "Vos offres d'alternance expirent dans 7 jours.",
        }
    }
}
