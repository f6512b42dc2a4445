//! What every part of a running process works with.

use std::sync::Arc;

use crate::config::{OnUserDeactivated, Settings};
use crate::mongo::causal::CausalDatabase;
use crate::mongo::primary_changes::PrimaryChanges;
use crate::mongo::server_clock::Clock;
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;
use crate::project::ProjectionSettings;

/// Settings, database, metrics, health and clock of this process.
#[derive(Debug, Clone)]
pub struct Context {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The database; reads are of the primary and of what a majority has, writes wait for a majority.
    pub database: CausalDatabase,
    /// Told when the primary is another one.
    pub primary_changes: PrimaryChanges,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Health.
    pub health: Arc<Health>,
    /// The clock of the time-based jobs.
    pub clock: Clock,
}

impl Context {
    /// What the projection takes from the configuration.
    #[must_use]
    pub fn projection_settings(&self) -> ProjectionSettings {
        ProjectionSettings {
            partner_label: self.settings.target.partner_label.clone(),
            public_url: self.settings.target.public_url.clone(),
            offer_type: self.settings.target.offer_type.clone(),
            anonymized_email: self.settings.privacy.anonymized_email.clone(),
            cancels_deactivated: self.settings.users.on_deactivated == OnUserDeactivated::CancelOffers,
        }
    }
}
