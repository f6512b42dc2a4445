//! Bounds the number of reports: one that returns within ten minutes is only counted, and so is any beyond sixty.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The time within which an equal report is not sent again.
const PAUSE: Duration = Duration::from_mins(10);
/// The most different reports within that time.
const MOST: usize = 60;

/// The reports of the last ten minutes.
#[derive(Debug, Default)]
pub(super) struct Repetition {
    /// By message and fields: when one was sent, and how many were held back since.
    sent: BTreeMap<String, (Instant, u64)>,
}

impl Repetition {
    /// `None` if the report must not be sent; otherwise the number of equal ones that were held back before. Reports that
    /// differ only in numbers are equal.
    pub(super) fn admits(&mut self, message: &str, fields: &BTreeMap<&str, String>, now: Instant) -> Option<u64> {
        let key: String = std::iter::once(message)
            .chain(fields.values().map(String::as_str))
            .flat_map(str::chars)
            .filter(|character| !character.is_ascii_digit())
            .collect();
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= PAUSE;
        if let Some((at, held_back)) = self.sent.get_mut(&key) {
            if !is_over(at) {
                *held_back += 1;
                return None;
            }
            *at = now;
            return Some(std::mem::take(held_back));
        }
        if self.sent.len() >= MOST {
            self.sent.retain(|_, (at, _)| !is_over(at));
        }
        if self.sent.len() >= MOST {
            return None;
        }
        self.sent.insert(key, (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn an_equal_report_is_counted_and_told_with_the_next_one() {
        let (mut repetition, now) = (Repetition::default(), clock::instant());
        let fields = |error: &str| BTreeMap::from([("error", error.to_owned())]);
        assert_eq!(repetition.admits("a", &fields("after 5 s"), now), Some(0));
        assert_eq!(repetition.admits("a", &fields("after 7 s"), now), None, "it differs in a number only");
        assert_eq!(repetition.admits("a", &fields("other"), now), Some(0));
        assert_eq!(repetition.admits("a", &fields("after 9 s"), now + PAUSE), Some(1));
    }

    #[test]
    fn their_number_is_bounded_whatever_they_say() {
        let (mut repetition, now) = (Repetition::default(), clock::instant());
        let name = |number: usize| "x".repeat(number);
        let sent = (0..1_000).filter(|number| repetition.admits(&name(*number), &BTreeMap::new(), now).is_some());
        assert_eq!(sent.count(), MOST);
        assert_eq!(repetition.admits("later", &BTreeMap::new(), now + PAUSE), Some(0));
    }
}
