//! The context that all parts of a process share: settings, database, metrics, health and clock.

use std::sync::Arc;

use chrono_tz::Tz;

use crate::config::{OnUserDeactivated, Settings};
use crate::mongo::causal::CausalDatabase;
use crate::mongo::primary_changes::PrimaryChanges;
use crate::mongo::server_clock::Clock;
use crate::notices::{Notices, Origin};
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;
use crate::project::ProjectionSettings;
use crate::target::Target;
use crate::version::VERSION;

/// What tells this deployment and this process from others.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// `environment` of the configuration.
    pub environment: &'static str,
    pub database: String,
    /// The replica set; empty for a router of a sharded cluster, and where the server was not asked.
    pub replica_set: String,
    /// The name under which this process holds the lease: host, process id, a random part.
    pub instance: String,
    /// The person who gives a command, for the records: `--as`, otherwise the user of the system and the host; with the user
    /// of MongoDB where the connection string names one.
    pub operator: String,
}

impl Deployment {
    /// The origin of a notice.
    #[must_use]
    pub(crate) fn origin(&self) -> Origin {
        let replica_set = match self.replica_set.as_str() {
            "" => String::new(),
            name => format!(", replica set {name}"),
        };
        let place = format!("database {}{replica_set}, instance {}, version {VERSION}", self.database, self.instance);
        Origin { environment: self.environment, place }
    }
}

/// The shared parts of one process. Clones share them too.
#[derive(Debug, Clone)]
pub struct Context {
    pub settings: Arc<Settings>,
    pub deployment: Arc<Deployment>,
    /// The database. Reads go to the primary and return data that a majority has. Writes wait for a majority.
    pub database: CausalDatabase,
    pub primary_changes: PrimaryChanges,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    /// The schema of `jobs_partners`, as it was read last.
    pub target: Target,
    /// The queue of the notices.
    pub(crate) notices: Notices,
    /// The clock by which time-based jobs run. A test can set it.
    pub clock: Clock,
    /// The time zone of times on the command line.
    pub time_zone: Tz,
}

impl Context {
    /// Returns the part of the settings that decides what is projected.
    #[must_use]
    pub fn projection_settings(&self) -> ProjectionSettings {
        ProjectionSettings {
            partner_label: self.settings.target.partner_label.clone(),
            public_url: self.settings.target.public_url.clone(),
            offer_type: self.settings.target.offer_type.clone(),
            anonymized_email: self.settings.privacy.anonymized_email.clone(),
            cancels_deactivated: self.settings.users.on_deactivated == OnUserDeactivated::CancelOffers,
            schema: self.target.schema(),
        }
    }
}
