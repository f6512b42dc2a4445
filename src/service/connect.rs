//! Builds the context of a command from checked settings.

use std::sync::Arc;

use super::{label_guard, preflight, right_database};
use chrono_tz::Tz;
use secrecy::ExposeSecret as _;

use crate::config::{Settings, process_environment};
use crate::context::{Context, Deployment};
use crate::lease::instance_name;
use crate::mail::delivery;
use crate::mongo;
use crate::mongo::primary_changes::PrimaryChanges;
use crate::mongo::server_clock::Clock;
use crate::notices::Notices;
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;
use crate::refusal::{Exit, Refusal};
use crate::schedule::zone;
use crate::target::Target;

/// What the command line says beside the configuration, and the name of this process.
#[derive(Debug, Clone)]
pub struct Given {
    /// The name of this process, by which the lease knows it.
    pub instance: String,
    /// True to accept a database without `recruiters`.
    pub allow_empty: bool,
    /// The name of the person who gives the command.
    pub operator: Option<String>,
    /// The time zone of times on the command line.
    pub time_zone: Option<Tz>,
}

impl Given {
    /// Makes the name of this process, and takes what the command line says.
    #[must_use]
    pub fn new(allow_empty: bool, operator: Option<String>, time_zone: Option<Tz>) -> Self {
        Self { instance: instance_name(), allow_empty, operator, time_zone }
    }
}

/// Connects and checks the server, the database, the privileges and the target. Writes nothing.
///
/// # Errors
/// A [`Refusal`] that says what is wrong with the connection string or the database.
pub async fn connect(settings: Settings, given: Given) -> Result<Context, Refusal> {
    let context = known(settings, given).await?;
    let settings = &context.settings;
    preflight::check(&context.database, &settings.target.partner_label, settings.ticker.enabled).await?;
    label_guard::check(&context.database, &settings.target.partner_label).await?;
    context.target.refresh(&context.database).await?;
    Ok(context)
}

/// Connects and checks the server only, for a command that only reads: such a command needs no privilege to write and
/// works with any target. A dry run also checks the label, because the same command without `--dry-run` is refused.
///
/// # Errors
/// A [`Refusal`] that says what is wrong with the connection string, the server or the label.
pub async fn connect_to_read(settings: Settings, given: Given, is_dry_run: bool) -> Result<Context, Refusal> {
    let context = known(settings, given).await?;
    if is_dry_run {
        label_guard::check(&context.database, &context.settings.target.partner_label).await?;
    }
    context.target.refresh(&context.database).await?;
    Ok(context)
}

/// Checks the server and the database, and completes the names of the deployment by the replica set.
async fn known(settings: Settings, given: Given) -> Result<Context, Refusal> {
    let allow_empty = given.allow_empty;
    let mut context = unchecked(settings, given).await?;
    let server = preflight::server(&context).await?;
    if !allow_empty {
        right_database::check(&context.database).await?;
    }
    let replica_set = server.set.unwrap_or_default();
    context.deployment = Arc::new(Deployment { replica_set, ..Deployment::clone(&context.deployment) });
    let Deployment { environment, database, replica_set, .. } = &*context.deployment;
    context.metrics.set_build([environment, database, replica_set]);
    Ok(context)
}

/// Builds the context without any check, for `doctor`, which makes the checks itself. The database may be unreachable.
///
/// # Errors
/// A [`Refusal`] that says what is wrong with the connection string.
pub async fn unchecked(settings: Settings, given: Given) -> Result<Context, Refusal> {
    let primary_changes = PrimaryChanges::default();
    let database = mongo::connect::connect(&settings, &primary_changes).await?;
    let metrics = Metrics::new().map_err(|error| Refusal::new(Exit::Usage, error.to_string()))?;
    metrics.begin_email_counts(delivery::labels());
    let health = Health::new(settings.health.max_lag, settings.health.max_retry, settings.stream.await_time);
    let deployment = Deployment {
        environment: settings.environment.word(),
        database: database.name().to_owned(),
        replica_set: String::new(),
        instance: given.instance,
        operator: operator(&settings, given.operator),
    };
    let deployment = Arc::new(deployment);
    // The name in the configuration was checked.
    let time_zone = given.time_zone.or_else(|| zone(&settings.ticker.time_zone)).unwrap_or(Tz::UTC);
    let (settings, metrics, health) = (Arc::new(settings), Arc::new(metrics), Arc::new(health));
    let target = Target::new(&settings.target, &metrics);
    Ok(Context {
        settings,
        deployment,
        database,
        primary_changes,
        metrics,
        health,
        target,
        notices: Notices::default(),
        clock: Clock::of_process(),
        time_zone,
    })
}

/// The name of the person who gives a command.
fn operator(settings: &Settings, given: Option<String>) -> String {
    let of_system = || {
        let environment = process_environment();
        let user = ["USER", "LOGNAME"].into_iter().find_map(|name| environment.get(name));
        let user = user.map_or_else(|| "unknown".into(), |user| user.to_string_lossy());
        format!("{user}@{}", gethostname::gethostname().to_string_lossy())
    };
    let name = given.unwrap_or_else(of_system);
    let credentials = settings.mongodb.uri.expose_secret().split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    match credentials.and_then(|(credentials, _)| credentials.split(':').next()).filter(|user| !user.is_empty()) {
        Some(user) => format!("{name} (MongoDB user {user})"),
        None => name,
    }
}
