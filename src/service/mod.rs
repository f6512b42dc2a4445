//! The running service. It serves HTTP, competes for the lease, and leads while it holds the lease.

pub(crate) mod command_wait;
pub mod connect;
mod database_watch;
mod heartbeats;
pub(crate) mod label_guard;
mod operator_signal;
mod operator_signals;
pub mod preflight;
pub mod reload;
pub(crate) mod right_database;
mod stand_by;
pub mod submit;
mod systemd;
mod verdict_log;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info, info_span};

use crate::clock;
use crate::config::{Environment, Settings};
use crate::context::{Context, Deployment};
use crate::logging;
use crate::refusal::{Exit, Refusal};
use crate::service::reload::ConfigurationInForce;
use crate::status::survey::{self, Survey};
use crate::target::watch::watch;
use crate::tasks::{Group, Task, signals};
use crate::ticker::job::TimedJob;
use crate::version;
use crate::web::routes::{WebState, router};
use crate::web::server::serve;

/// Runs the service until SIGTERM or Ctrl-C. SIGHUP lets it read the configuration again.
///
/// # Errors
/// A [`Refusal`] when the service cannot listen at `http.listen`, or when a task fails for good.
pub async fn run(context: Context, configuration: ConfigurationInForce) -> Result<Exit, Refusal> {
    let Deployment { environment, database, replica_set, instance, .. } = &*context.deployment;
    // Every line of the log names the deployment. In text for people the names would hide the message.
    let names = if logging::is_json(&context.settings.log) {
        info_span!("deployment", environment, database, replica_set, instance)
    } else {
        Span::none()
    };
    let file = configuration.sources.file.as_ref().map_or_else(|| "none".to_owned(), |file| file.display().to_string());
    async move {
        let listener = listen(&context.settings).await?;
        let Deployment { environment, database, replica_set, instance, .. } = &*context.deployment;
        let (version, commit) = (version::VERSION, version::COMMIT);
        info!(
            version,
            commit,
            configuration = file,
            environment,
            database,
            replica_set,
            instance,
            "the service starts"
        );
        serve_and_lead(context, listener, configuration).await
    }
    .instrument(names)
    .await
}

/// Listens at `http.listen`, after the checks that need no database.
async fn listen(settings: &Settings) -> Result<TcpListener, Refusal> {
    check_mail_server(settings)?;
    let listen = settings.http.listen;
    TcpListener::bind(listen).await.map_err(|error| {
        let message = format!(
            "http.listen: cannot listen on {listen}: {error}; choose another port, or stop the process that uses it"
        );
        Refusal::new(Exit::Usage, message)
    })
}

async fn serve_and_lead(
    context: Context,
    listener: TcpListener,
    configuration: ConfigurationInForce,
) -> Result<Exit, Refusal> {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serving /metrics and the probes");
    }
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    // First: systemd may stop the service, or let it read its configuration, as soon as it is told that it is ready.
    group.spawn(Task::Signals, signals(group.stop.clone()));
    group.spawn(Task::Reload, configuration.read_again(group.stop.clone()));
    let survey = Arc::new(Survey::default());
    let shown = WebState::of(&context, &survey);
    group.spawn(Task::Http, serve(listener, router(shown), group.stop.clone()));
    group.spawn(Task::Verdict, verdict_log::watch(context.clone(), Arc::clone(&survey), group.stop.clone()));
    group.spawn(Task::Systemd, systemd::tell(context.clone(), Arc::clone(&survey), group.stop.clone()));
    if context.settings.signals.enabled {
        let (signals, started) = ((context.clone(), Arc::clone(&survey)), clock::now());
        group.spawn(Task::OperatorSignals, operator_signals::watch(signals.0, signals.1, started, group.stop.clone()));
    }
    group.spawn(Task::Survey, survey::watch(context.clone(), survey, group.stop.clone()));
    let watched = (context.target.clone(), context.database.clone(), Arc::clone(&context.health));
    group.spawn(Task::Target, watch(watched, context.notices.clone(), group.stop.clone()));
    group.spawn(Task::Database, database_watch::watch(context.clone(), group.stop.clone()));
    group.spawn(Task::Heartbeats, heartbeats::write(context.clone(), group.stop.clone()));
    group.spawn(Task::Pipeline, stand_by::lead_in_turn(context.clone(), group.stop.clone()));
    let ended = group.join(Task::Pipeline).await;
    heartbeats::end(&context).await;
    match ended {
        Ok(()) => Ok(Exit::Done),
        Err(cause) => Err(Refusal::new(Exit::Findings, format!("{cause}; {}", cause.advice()))),
    }
}

/// Says what is missing in production when a job that sends e-mails is enabled without a mail server: messages in a
/// folder reach nobody (spec 09, "Jobs, as they ran before"). `None` when nothing is missing.
pub(crate) fn missing_mail_server(settings: &Settings) -> Option<String> {
    let is_needed = settings.environment == Environment::Production && settings.ticker.enabled;
    if !is_needed || settings.smtp.url.is_some() {
        return None;
    }
    let sends = |name: &&str| TimedJob::named(name).is_some_and(TimedJob::sends_email);
    let enabled = settings.ticker.jobs.iter().filter(|(_, job)| job.enabled).map(|(name, _)| *name);
    let jobs: Vec<&str> = enabled.filter(sends).collect();
    (!jobs.is_empty()).then(|| {
        format!("smtp.url is not set, `environment` is `production`, and these jobs send e-mails: {}", jobs.join(", "))
    })
}

/// Refuses a configuration in which e-mails would reach nobody, see [`missing_mail_server`].
///
/// # Errors
/// A [`Refusal`] that names the missing key and the jobs.
pub(crate) fn check_mail_server(settings: &Settings) -> Result<(), Refusal> {
    match missing_mail_server(settings) {
        Some(missing) => Err(Refusal::new(Exit::Usage, format!("{missing}; {MAIL_SERVER}"))),
        None => Ok(()),
    }
}

/// What to do when [`missing_mail_server`].
pub(crate) const MAIL_SERVER: &str = "set smtp.url, or `enabled = false` in `ticker.jobs` for each of them";
