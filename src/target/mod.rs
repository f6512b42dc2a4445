//! The schema of `jobs_partners` as it is now (spec 09, "The target's schema decides"). The applications put their
//! validator back at every start, and a deploy drops indexes. So both are read again and again, and what is written
//! follows them.

mod read;
pub(crate) mod watch;

use std::sync::Arc;

use mongodb::Database;
use tokio::sync::Mutex;
use tokio::sync::watch::Sender;
use tracing::{info, warn};

use crate::config::TargetSettings;
use crate::error::Failure;
use crate::model::TargetSchema;
use crate::model::names::OFFERS;
use crate::observe::metrics::Metrics;

pub(crate) use read::validator;

/// The fields by which the service searches offers together, and what gets slower without an index that begins with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SearchedField {
    /// One name, or several with a comma and a space between them.
    pub name: &'static str,
    pub slower: &'static str,
}

/// The fields by which offers are searched.
pub(crate) const SEARCHED: [SearchedField; 6] = [
    SearchedField { name: "partner_label", slower: "resyncs, verifications and jobs that go through all our offers" },
    SearchedField {
        name: "offer_status, partner_label",
        slower: "counts of offers, cancel-expired-offers, fill-missing-start-dates and send-introductions",
    },
    SearchedField { name: "offer_expiration", slower: "both reminders and cap-offer-expirations" },
    SearchedField { name: "managed_by", slower: "changes and anonymisations of users, and the e-mails to them" },
    SearchedField { name: "establishment_id", slower: "events of anonymised recruiters" },
    SearchedField { name: "recruiter_status", slower: "refresh-pending-establishments" },
];

/// The number of changes that wait for a notice. Further changes are only logged and counted.
const UNTOLD: usize = 100;

/// The state of the target at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TargetState {
    pub schema: Arc<TargetSchema>,
    /// True when the user of the service may not read the validator or the indexes. Then every field counts as allowed.
    pub is_hidden: bool,
    /// The searched fields with which no index begins.
    pub unindexed: Vec<&'static str>,
    /// The action of the validator, `error` or `warn`; `None` where no validator is in force, or it is hidden.
    pub action: Option<&'static str>,
}

/// What the action of a validator means, for people.
#[must_use]
pub(crate) fn meaning(action: &str) -> &'static str {
    if action == "error" {
        "the server refuses an offer that does not match it"
    } else {
        "the server accepts an offer that does not match it, and logs it"
    }
}

/// The target as it was read last. Clones share it.
#[derive(Debug, Clone)]
pub struct Target {
    label: Arc<str>,
    settings: Arc<TargetSettings>,
    metrics: Arc<Metrics>,
    state: Arc<Sender<TargetState>>,
    /// Held during a read, so that an older answer never replaces a newer one. True after the first read.
    reading: Arc<Mutex<bool>>,
    /// The changes about which no notice was sent yet.
    untold: Arc<Mutex<Vec<String>>>,
}

impl Target {
    /// A target that was not read yet: it allows every field.
    #[must_use]
    pub(crate) fn new(settings: &TargetSettings, metrics: &Arc<Metrics>) -> Self {
        Self {
            label: settings.partner_label.as_str().into(),
            settings: Arc::new(settings.clone()),
            metrics: Arc::clone(metrics),
            state: Arc::new(Sender::new(TargetState::default())),
            reading: Arc::new(Mutex::new(false)),
            untold: Arc::default(),
        }
    }

    /// The schema in force.
    #[must_use]
    pub fn schema(&self) -> Arc<TargetSchema> {
        Arc::clone(&self.state.borrow().schema)
    }

    /// Everything that was read.
    #[must_use]
    pub(crate) fn state(&self) -> TargetState {
        self.state.borrow().clone()
    }

    /// Reads the validator and the indexes again. Each change since the last read is logged and counted, and waits for
    /// a notice.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn refresh(&self, database: &Database) -> Result<(), Failure> {
        let mut was_read = self.reading.lock().await;
        let before = self.state();
        let known = was_read.then(|| before.schema.managed_by());
        let now = read::state(database, &self.label, self.settings.managed_by_type, known).await?;
        self.metrics.target_fields_omitted(now.schema.omitted());
        let changes = if *was_read { changes(&before, &now) } else { Vec::new() };
        *was_read = true;
        if before != now {
            self.state.send_replace(now);
        }
        if self.state().is_hidden && !before.is_hidden {
            warn!(
                "the user may not read the validator and the indexes of jobs_partners: every field counts as allowed"
            );
        }
        for change in &changes {
            warn!(change, "the schema or the indexes of jobs_partners changed");
        }
        self.metrics.target.schema_changes.inc_by(changes.len() as u64);
        let mut untold = self.untold.lock().await;
        untold.extend(changes);
        untold.truncate(UNTOLD);
        Ok(())
    }

    /// Reads the schema again after the server refused an offer by its validator. True when the schema is no longer
    /// the one for which the offer was made: then the offer is made again.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn differs_from(&self, made_for: &TargetSchema, database: &Database) -> Result<bool, Failure> {
        self.refresh(database).await?;
        let differs = *self.schema() != *made_for;
        if differs {
            info!("offers are made again for the new schema of jobs_partners");
        }
        Ok(differs)
    }
}

/// One sentence for each change.
pub(crate) fn changes(before: &TargetState, now: &TargetState) -> Vec<String> {
    let new = |of: &[&'static str], than: &[&'static str]| -> Vec<&'static str> {
        of.iter().filter(|name| !than.contains(name)).copied().collect()
    };
    let mut changes = Vec::new();
    let (old, new_schema) = (&before.schema, &now.schema);
    let refused = new(new_schema.omitted(), old.omitted());
    if !refused.is_empty() {
        let others = if new_schema.removed().is_empty() {
            ""
        } else {
            "; until then the server refuses every change of an offer that has one of them, also the platform's closings"
        };
        changes.push(format!(
            "the validator of {OFFERS} no longer allows {}; offers are written without these fields: run \
             `stream-processor setup` to allow them again{others}",
            refused.join(", ")
        ));
    }
    let allowed = new(old.omitted(), new_schema.omitted());
    if !allowed.is_empty() {
        changes.push(format!(
            "the validator of {OFFERS} allows {} now; the leader gives existing offers these fields by a resync, in \
             the phases sync and dual-write",
            allowed.join(", ")
        ));
    }
    if old.managed_by() != new_schema.managed_by() {
        changes.push(format!("managed_by of {OFFERS} is written as {} now", new_schema.managed_by().name()));
    }
    if old.has_pending() != new_schema.has_pending() {
        let verb = if new_schema.has_pending() { "allows" } else { "no longer allows" };
        changes.push(format!("the validator of {OFFERS} {verb} the status Pending"));
    }
    if before.action != now.action && !before.is_hidden && !now.is_hidden {
        changes.push(match (before.action, now.action) {
            (Some(before), Some(now)) => {
                format!("the validator of {OFFERS} has the action {now} in place of {before}: {}", meaning(now))
            }
            (None, Some(now)) => {
                format!("{OFFERS} has a validator now, with the action {now}: {}", meaning(now))
            }
            (_, None) => format!("{OFFERS} has no validator in force now: the server accepts every offer"),
        });
    }
    for field in SEARCHED.iter().filter(|field| new(&now.unindexed, &before.unindexed).contains(&field.name)) {
        changes.push(format!(
            "{OFFERS} has no index that begins with {}; slower now: {}; create it again \
             (`stream-processor setup` creates those that it added)",
            field.name, field.slower
        ));
    }
    changes
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use crate::model::ManagedByType;
    use crate::model::target_schema::Validator;

    use super::*;

    fn state(validator: &Document, managed_by: ManagedByType, unindexed: &[&'static str]) -> TargetState {
        let validator = Validator { rules: validator.clone(), action: "error", level: "strict" };
        let schema = TargetSchema::read(&validator, managed_by, ["offer_title", "mer_sent"].into_iter());
        TargetState { schema: schema.into(), unindexed: unindexed.to_vec(), ..TargetState::default() }
    }

    #[test]
    fn another_action_of_the_validator_is_a_change() {
        let with = |action| TargetState { action, ..TargetState::default() };
        let told = |before, now| changes(&with(before), &with(now)).join("\n");
        assert_eq!(told(Some("warn"), Some("warn")), "");
        assert!(told(Some("warn"), Some("error")).contains("action error in place of warn: the server refuses"));
        assert!(told(None, Some("error")).contains("a validator now, with the action error"));
        assert!(told(Some("error"), None).contains("no validator in force"));
        let hidden = TargetState { is_hidden: true, ..TargetState::default() };
        assert_eq!(changes(&with(Some("error")), &hidden), Vec::<String>::new(), "unknown is no change");
    }

    #[test]
    fn each_change_has_a_sentence_that_names_what_changed() {
        let closed = doc! { "$jsonSchema": { "additionalProperties": false, "properties": {
            "offer_title": {}, "offer_status": { "enum": ["Active", "Pending"] },
        } } };
        let (open, strict) =
            (state(&doc! {}, ManagedByType::String, &[]), state(&closed, ManagedByType::ObjectId, &["managed_by"]));
        assert_eq!(changes(&open, &open), Vec::<String>::new());
        let told = changes(&open, &strict).join("\n");
        for word in [
            "no longer allows mer_sent",
            "also the platform's closings",
            "an ObjectId",
            "allows the status Pending",
            "begins with managed_by",
        ] {
            assert!(told.contains(word), "{word}: {told}");
        }
        let back = changes(&strict, &open).join("\n");
        assert!(back.contains("allows mer_sent now") && back.contains("as text"), "{back}");
    }
}
