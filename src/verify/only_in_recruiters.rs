//! What exists in `recruiters` alone and would be lost with that collection (spec 09, "Before `retired`"): counts and
//! ids by kind, never values. The size of the result does not grow with the number of recruiters.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The greatest number of ids of each kind. They are for the repair, so they are more than those of a difference.
const IDS: usize = 1_000;
/// The greatest number of names of fields. The texts of further fields count under [`OTHER_FIELDS`].
const FIELDS: usize = 50;
/// The longest name of a field that is shown.
const LONGEST_NAME: usize = 60;
const OTHER_FIELDS: &str = "(other fields)";

/// A kind of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossKind {
    /// A recruiter without jobs, which no offer shows.
    RecruitersWithoutJobs,
    /// A recruiter that cannot be read: its `_id` is no ObjectId, or its bytes are not valid BSON.
    UnreadableRecruiters,
    /// A job without an offer of ours: a dead letter, a recruiter without address, or an offer that is gone.
    JobsWithoutOffer,
    /// The contact of a delegated establishment that `entreprise_managed_by_cfa` does not have.
    DelegatedContacts,
    /// The name of a contact whose user is neither in `userswithaccounts` nor anonymised.
    ContactsWithoutUser,
    /// A `job_employer_description` that the offer's `workplace_description` does not hold.
    EmployerDescriptions,
    /// A recruiter or a job with a text that no field of an offer holds.
    FreeTexts,
}

impl LossKind {
    pub const ALL: [Self; 7] = [
        Self::RecruitersWithoutJobs,
        Self::UnreadableRecruiters,
        Self::JobsWithoutOffer,
        Self::DelegatedContacts,
        Self::ContactsWithoutUser,
        Self::EmployerDescriptions,
        Self::FreeTexts,
    ];

    /// The name in reports and in the stored result.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RecruitersWithoutJobs => "recruiters_without_jobs",
            Self::UnreadableRecruiters => "unreadable_recruiters",
            Self::JobsWithoutOffer => "jobs_without_offer",
            Self::DelegatedContacts => "delegated_contacts",
            Self::ContactsWithoutUser => "contacts_without_user",
            Self::EmployerDescriptions => "employer_descriptions",
            Self::FreeTexts => "free_texts",
        }
    }
}

/// The number of documents of one kind, with the first ids.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct LossCount {
    pub count: u64,
    /// `recruiters/ID` or `recruiters/ID/JOB`, 1,000 at most.
    pub ids: Vec<String>,
}

/// The result of one count.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OnlyInRecruiters {
    losses: BTreeMap<LossKind, LossCount>,
    /// The number of texts by field, for [`LossKind::FreeTexts`].
    fields: BTreeMap<String, u64>,
    /// What could not be looked at, each with the reason.
    pub not_looked_at: Vec<String>,
}

impl OnlyInRecruiters {
    pub(super) fn add(&mut self, kind: LossKind, id: impl FnOnce() -> String) {
        let loss = self.losses.entry(kind).or_default();
        loss.count += 1;
        if loss.ids.len() < IDS {
            loss.ids.push(id());
        }
    }

    /// Counts a recruiter or a job with texts in these fields; nothing where there are none.
    pub(super) fn add_texts<'a>(&mut self, fields: impl Iterator<Item = &'a str>, id: impl FnOnce() -> String) {
        let mut any = false;
        for name in fields {
            any = true;
            // A damaged document may have any text as a name.
            let is_plain =
                name.len() <= LONGEST_NAME && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            self.add_field(if is_plain { name } else { OTHER_FIELDS }, 1);
        }
        if any {
            self.add(LossKind::FreeTexts, id);
        }
    }

    fn add_field(&mut self, name: &str, count: u64) {
        let is_shown = self.fields.len() < FIELDS || self.fields.contains_key(name);
        let name = if is_shown { name } else { OTHER_FIELDS };
        *self.fields.entry(name.to_owned()).or_default() += count;
    }

    /// Adds what was found in other recruiters.
    pub(super) fn extend(&mut self, other: Self) {
        for (kind, loss) in other.losses {
            let sum = self.losses.entry(kind).or_default();
            sum.count += loss.count;
            let room = IDS.saturating_sub(sum.ids.len());
            sum.ids.extend(loss.ids.into_iter().take(room));
        }
        for (name, count) in other.fields {
            self.add_field(&name, count);
        }
        self.not_looked_at.extend(other.not_looked_at);
    }

    /// The number of documents of a kind.
    #[must_use]
    pub fn count(&self, kind: LossKind) -> u64 {
        self.losses.get(&kind).map_or(0, |loss| loss.count)
    }

    /// Every kind with its number, 0 included.
    pub fn counts(&self) -> impl Iterator<Item = (LossKind, u64)> + '_ {
        LossKind::ALL.into_iter().map(|kind| (kind, self.count(kind)))
    }

    /// The counts alone as JSON, for `phase show`.
    #[must_use]
    pub fn counts_as_json(&self) -> Value {
        let mut counts: Map<String, Value> =
            self.counts().map(|(kind, count)| (kind.as_str().to_owned(), count.into())).collect();
        counts.insert("not_looked_at".to_owned(), json!(self.not_looked_at));
        Value::Object(counts)
    }

    /// The lines for a terminal: each kind with its number and its first ids, then what was not looked at. `all` adds
    /// the kinds of which there is none.
    #[must_use]
    pub fn lines(&self, all: bool) -> Vec<String> {
        let line = |(kind, count): (LossKind, u64)| {
            let loss = self.losses.get(&kind);
            let ids = loss.map(|loss| loss.ids.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(" "));
            let more = if loss.is_some_and(|loss| loss.ids.len() > 3) { " …" } else { "" };
            format!("  {:<34} {count:>8}  {}{more}", kind.as_str(), ids.unwrap_or_default()).trim_end().to_owned()
        };
        let mut lines: Vec<String> = self.counts().filter(|(_, count)| all || *count > 0).map(line).collect();
        lines.extend(self.fields.iter().map(|(name, count)| format!("    {name:<32} {count:>8}")));
        lines.extend(self.not_looked_at.iter().map(|what| format!("  not looked at: {what}")));
        lines
    }
}

impl Serialize for OnlyInRecruiters {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let none = LossCount::default();
        let mut all: BTreeMap<&str, Value> = BTreeMap::new();
        for kind in LossKind::ALL {
            all.insert(kind.as_str(), json!(self.losses.get(&kind).unwrap_or(&none)));
        }
        all.insert("free_text_fields", json!(self.fields));
        all.insert("not_looked_at", json!(self.not_looked_at));
        all.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_of_fields_are_bounded_and_a_name_that_may_be_a_text_is_not_shown() {
        let mut found = OnlyInRecruiters::default();
        for number in 0..2_000 {
            let name = format!("custom_{number}");
            found.add_texts([name.as_str(), "jean@example.com"].into_iter(), || number.to_string());
        }
        let report = serde_json::to_value(&found).unwrap();
        assert_eq!(report["free_texts"]["count"], 2_000);
        assert_eq!(report["free_texts"]["ids"].as_array().unwrap().len(), IDS);
        assert!(report["free_text_fields"].as_object().unwrap().len() <= FIELDS + 1);
        assert!(!report.to_string().contains("example.com"));
        assert_eq!(report["recruiters_without_jobs"]["count"], 0, "each kind is there");
    }

    #[test]
    fn what_was_found_in_parts_is_the_same_as_in_one_piece_and_stays_bounded() {
        let found = |numbers: std::ops::Range<u32>| {
            let mut found = OnlyInRecruiters::default();
            for number in numbers {
                let name = format!("custom_{}", number / 30);
                found.add_texts([name.as_str()].into_iter(), || number.to_string());
                found.add(LossKind::JobsWithoutOffer, || number.to_string());
            }
            found
        };
        let mut parts = OnlyInRecruiters::default();
        for begin in (0..2_000).step_by(400) {
            parts.extend(found(begin..begin + 400));
        }
        assert_eq!(parts, found(0..2_000));
    }
}
