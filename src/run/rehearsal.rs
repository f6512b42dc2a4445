//! What was written, and what a dry run would have written, counted; it shows names of fields, never values.

use std::collections::BTreeMap;

use crate::model::dead_letter::Reason;
use crate::project::diff::{self, Change};

/// Offers by what was done with them since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Created.
    pub created: u64,
    /// Changed.
    pub changed: u64,
    /// Stood as projected.
    pub unchanged: u64,
}

/// Counts of a dry run.
#[derive(Debug, Default, Clone)]
pub struct Rehearsal {
    /// Offers that would be created.
    pub created: u64,
    /// Offers that would be changed.
    pub changed: u64,
    /// Offers that stand as they should.
    pub unchanged: u64,
    /// Jobs that are gone: their offers would be cancelled where they are not.
    pub jobs_gone: u64,
    /// How often each field would be changed.
    pub fields: BTreeMap<String, u64>,
    /// Jobs that would be dead letters, by reason.
    pub dead_letters: BTreeMap<Reason, u64>,
}

impl Rehearsal {
    /// Counts one offer.
    pub fn add(&mut self, change: &Change) {
        match change {
            Change::Create => self.created += 1,
            Change::Nothing => self.unchanged += 1,
            Change::Update { fields, .. } => {
                self.changed += 1;
                for name in diff::names(fields) {
                    *self.fields.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }
}
