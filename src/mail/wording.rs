//! The words of a message about the expiration of its offers, by the calendar of Paris (spec 09, "Reminders"). They
//! depend on the dates of the offers, never on the job that sends the message. Pure.

use bson::DateTime;
use chrono::{Datelike as _, Timelike as _};
use chrono_tz::{Europe::Paris, Tz};

use super::email::{Email, EmailOffer, Footer, Template};

const DAYS: [&str; 7] = ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"];
const MONTHS: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];

/// The date and the hour in Paris, such as `mercredi 15 juillet 2026 à 00 h 00`.
#[must_use]
pub(super) fn moment(date: DateTime) -> Option<String> {
    let date = in_paris(date)?;
    let day = DAYS.get(usize::try_from(date.weekday().num_days_from_monday()).ok()?)?;
    let month = MONTHS.get(usize::try_from(date.month0()).ok()?)?;
    let number = if date.day() == 1 { "1er".to_owned() } else { date.day().to_string() };
    Some(format!("{day} {number} {month} {} à {:02} h {:02}", date.year(), date.hour(), date.minute()))
}

/// The distance of `date` from `now` in days of the calendar of Paris: `aujourd'hui`, `demain`, `dans N jours`.
#[must_use]
pub(super) fn distance(now: DateTime, date: DateTime) -> Option<String> {
    let days = in_paris(date)?.date_naive().signed_duration_since(in_paris(now)?.date_naive()).num_days();
    Some(match days {
        ..=0 => "aujourd'hui".to_owned(),
        1 => "demain".to_owned(),
        days => format!("dans {days} jours"),
    })
}

fn in_paris(date: DateTime) -> Option<chrono::DateTime<Tz>> {
    chrono::DateTime::from_timestamp_millis(date.timestamp_millis()).map(|date| date.with_timezone(&Paris))
}

impl EmailOffer {
    /// The date and the hour at which the offer expires.
    pub(super) fn expiration(&self) -> Option<String> {
        self.expires.and_then(moment)
    }
}

impl Footer {
    /// The public address without its name.
    pub(super) fn contact_address(&self) -> &str {
        let bracketed = self.contact.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        bracketed.map_or(self.contact.as_str(), |(address, _)| address)
    }
}

impl Email {
    /// The subject of the message, in French (spec 05). With several offers, the first expiration counts.
    pub(super) fn subject(&self) -> String {
        match self.template {
            Template::RemindJ7 | Template::RemindJ1 => {
                let distance = self.expirations().min().and_then(|first| distance(self.now, first));
                format!("Votre offre expire {}", distance.as_deref().unwrap_or("bientôt"))
            }
            Template::Introduction => "Partagez votre offre aux CFA proches de votre établissement".to_owned(),
        }
    }

    /// The sentence about the expiration of the offers.
    pub(super) fn announcement(&self) -> String {
        let (first, last) = (self.expirations().min(), self.expirations().max());
        let (Some(first), Some(moment)) = (first, first.and_then(moment)) else {
            return "Votre offre d'alternance expire bientôt.".to_owned();
        };
        if !self.is_plural() {
            return format!("Votre offre d'alternance expire le {moment}.");
        }
        if last == Some(first) {
            return format!("Vos offres d'alternance expirent le {moment}.");
        }
        format!("Vos offres d'alternance expirent bientôt, la première le {moment}.")
    }

    /// True where the message has more than one offer.
    pub(super) fn is_plural(&self) -> bool {
        self.offers().count() > 1
    }

    /// True where each offer states its own expiration: in a reminder of several offers.
    pub(super) fn shows_expirations(&self) -> bool {
        self.template != Template::Introduction && self.is_plural()
    }

    /// The link that shares the offer of an introduction.
    pub(super) fn introduction(&self) -> Option<&str> {
        self.offers().find_map(|offer| offer.introduction.as_deref())
    }

    fn offers(&self) -> impl Iterator<Item = &EmailOffer> {
        self.establishments.iter().flat_map(|establishment| &establishment.offers)
    }

    fn expirations(&self) -> impl Iterator<Item = DateTime> {
        self.offers().filter_map(|offer| offer.expires)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn at(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    #[test]
    fn a_moment_is_that_of_paris_in_summer_and_in_winter() {
        for (date, expected) in [
            ("2026-07-14T22:00:00Z", "mercredi 15 juillet 2026 à 00 h 00"),
            ("2026-07-14T21:59:59.999Z", "mardi 14 juillet 2026 à 23 h 59"),
            ("2026-12-31T23:00:00Z", "vendredi 1er janvier 2027 à 00 h 00"),
            ("2026-02-28T08:05:00Z", "samedi 28 février 2026 à 09 h 05"),
            // The hour that does not exist, and the one that comes twice.
            ("2026-03-29T01:00:00Z", "dimanche 29 mars 2026 à 03 h 00"),
            ("2026-10-25T00:30:00Z", "dimanche 25 octobre 2026 à 02 h 30"),
            ("2026-10-25T01:30:00Z", "dimanche 25 octobre 2026 à 02 h 30"),
        ] {
            assert_eq!(moment(at(date)).as_deref(), Some(expected), "{date}");
        }
    }

    #[test]
    fn the_distance_counts_days_of_the_calendar_and_not_hours() {
        for (now, date, expected) in [
            ("2026-07-14T07:20:00Z", "2026-07-14T21:59:59Z", "aujourd'hui"),
            ("2026-07-14T07:20:00Z", "2026-07-14T22:00:00Z", "demain"),
            ("2026-07-14T21:59:59Z", "2026-07-14T22:00:00Z", "demain"),
            ("2026-07-14T22:00:00Z", "2026-07-14T22:00:00Z", "aujourd'hui"),
            ("2026-07-14T07:20:00Z", "2026-07-15T22:00:00Z", "dans 2 jours"),
            ("2026-07-08T07:20:00Z", "2026-07-14T22:00:00Z", "dans 7 jours"),
            ("2026-12-28T08:20:00Z", "2027-01-03T23:00:00Z", "dans 7 jours"),
            // Days of 23 and of 25 hours, and weeks with one of them.
            ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "demain"),
            ("2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", "aujourd'hui"),
            ("2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "aujourd'hui"),
            ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "demain"),
            ("2026-03-23T08:20:00Z", "2026-03-29T22:00:00Z", "dans 7 jours"),
            ("2026-10-19T07:20:00Z", "2026-10-25T23:00:00Z", "dans 7 jours"),
        ] {
            assert_eq!(distance(at(now), at(date)).as_deref(), Some(expected), "{now} {date}");
        }
    }

    #[test]
    fn the_subject_goes_by_the_first_expiration_and_not_by_the_job() {
        let mut email = sample::email(Template::RemindJ7);
        email.now = at("2026-07-14T07:20:00Z");
        email.establishments[0].offers[1].expires = Some(at("2026-07-15T22:00:00Z"));
        assert_eq!(email.subject(), "Votre offre expire demain");
        assert!(email.announcement().contains("la première le mercredi 15 juillet 2026 à 00 h 00"));
        email.template = Template::RemindJ1;
        email.establishments.truncate(1);
        email.establishments[0].offers.truncate(1);
        email.establishments[0].offers[0].expires = Some(at("2026-07-16T22:00:00Z"));
        assert_eq!(email.subject(), "Votre offre expire dans 3 jours");
        assert_eq!(email.announcement(), "Votre offre d'alternance expire le vendredi 17 juillet 2026 à 00 h 00.");
    }
}
