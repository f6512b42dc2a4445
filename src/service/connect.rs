//! Builds the context of a command from checked settings.

use std::sync::Arc;

use super::{label_guard, preflight};
use crate::config::Settings;
use crate::context::Context;
use crate::mail::delivery;
use crate::mongo;
use crate::mongo::primary_changes::PrimaryChanges;
use crate::mongo::server_clock::Clock;
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;
use crate::refusal::{Exit, Refusal};
use crate::target::Target;

/// Connects and checks the server, the privileges and the target. Writes nothing.
///
/// # Errors
/// A [`Refusal`] that says what is wrong with the connection string or the database.
pub async fn connect(settings: Settings) -> Result<Context, Refusal> {
    let context = unchecked(settings).await?;
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
pub async fn connect_to_read(settings: Settings) -> Result<Context, Refusal> {
    let context = unchecked(settings).await?;
    preflight::server(&context.database).await?;
    context.target.refresh(&context.database).await?;
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
    let (settings, metrics, health) = (Arc::new(settings), Arc::new(metrics), Arc::new(health));
    let target = Target::new(&settings.target, &metrics);
    Ok(Context { settings, database, primary_changes, metrics, health, target, clock: Clock::of_process() })
}
