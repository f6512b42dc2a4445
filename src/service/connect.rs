//! Builds the context of a command from checked settings.

use std::sync::Arc;

use super::{label_guard, preflight, right_database};
use crate::config::Settings;
use crate::context::{Context, Deployment};
use crate::lease::instance_name;
use crate::mail::delivery;
use crate::mongo;
use crate::mongo::primary_changes::PrimaryChanges;
use crate::mongo::server_clock::Clock;
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;
use crate::refusal::{Exit, Refusal};
use crate::target::Target;

/// Connects and checks the server, the database, the privileges and the target. Writes nothing. `allow_empty` accepts a
/// database without `recruiters`.
///
/// # Errors
/// A [`Refusal`] that says what is wrong with the connection string or the database.
pub async fn connect(settings: Settings, allow_empty: bool) -> Result<Context, Refusal> {
    let context = known(unchecked(settings).await?, allow_empty).await?;
    let settings = &context.settings;
    preflight::check(&context.database, &settings.target.partner_label, settings.ticker.enabled).await?;
    label_guard::check(&context.database, &settings.target.partner_label).await?;
    context.target.refresh(&context.database).await?;
    Ok(context)
}

/// Connects and checks the server only, for a command that only reads: such a command needs no privilege to write and
/// works with any target.
///
/// # Errors
/// A [`Refusal`] that says what is wrong with the connection string or the server.
pub async fn connect_to_read(settings: Settings, allow_empty: bool) -> Result<Context, Refusal> {
    let context = known(unchecked(settings).await?, allow_empty).await?;
    context.target.refresh(&context.database).await?;
    Ok(context)
}

/// Checks the server and the database, and completes the names of the deployment by the replica set.
async fn known(mut context: Context, allow_empty: bool) -> Result<Context, Refusal> {
    let server = preflight::server(&context.database).await?;
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
pub async fn unchecked(settings: Settings) -> Result<Context, Refusal> {
    let primary_changes = PrimaryChanges::default();
    let database = mongo::connect::connect(&settings, &primary_changes).await?;
    let metrics = Metrics::new().map_err(|error| Refusal::new(Exit::Usage, error.to_string()))?;
    metrics.begin_email_counts(delivery::labels());
    let health = Health::new(settings.health.max_lag, settings.health.max_retry, settings.stream.await_time);
    let deployment = Deployment {
        environment: settings.environment.word(),
        database: database.name().to_owned(),
        replica_set: String::new(),
        instance: instance_name(),
    };
    let deployment = Arc::new(deployment);
    let (settings, metrics, health) = (Arc::new(settings), Arc::new(metrics), Arc::new(health));
    let target = Target::new(&settings.target, &metrics);
    Ok(Context { settings, deployment, database, primary_changes, metrics, health, target, clock: Clock::of_process() })
}
