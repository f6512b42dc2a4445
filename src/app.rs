//! Builds the running service from finished settings: connects, checks the database, then serves HTTP,
//! competes for the lease and leads while it holds it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::{ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::Exit;
use crate::clock::Clock;
use crate::config::{OnUserDeactivated, Settings};
use crate::error::{Failure, describe};
use crate::fetch::causal::CausalDatabase;
use crate::observe::health::{Health, Part, Role};
use crate::observe::metrics::Metrics;
use crate::observe::survey::{self, Survey};
use crate::project::ProjectionSettings;
use crate::retry::Delays;
use crate::run::lease::{self, Lease, holder};
use crate::run::requests::Outcome;
use crate::run::tasks::{Group, Task};
use crate::run::{lead, preflight};
use crate::source::primary::PrimaryChanges;
use crate::web::routes::{Shown, router};
use crate::web::server::serve;

/// What every part of a running process works with.
#[derive(Debug, Clone)]
pub struct App {
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
    /// What the database says about the whole service.
    pub survey: Arc<Survey>,
    /// The clock of the time-based jobs.
    pub clock: Clock,
}

/// Why a command could not be done, in a sentence with what to do, and how the process ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The exit code.
    pub exit: Exit,
    /// What failed, on what, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Of a command that was refused by who carries it out.
    #[must_use]
    pub fn of(refused: &Outcome) -> Self {
        let reasons = refused.details.get_array("reasons").map(Vec::as_slice).unwrap_or_default();
        let reasons: Vec<&str> = reasons.iter().filter_map(bson::Bson::as_str).collect();
        Self::new(Exit::Findings, format!("refused: {}", reasons.join("; ")))
    }

    /// The process's end.
    #[must_use]
    pub fn code(&self) -> ExitCode {
        self.exit.into()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::new(Exit::Database, format!("{failure}; {}", failure.advice()))
    }
}

impl App {
    /// Connects and checks that the database can be worked with. Writes nothing.
    ///
    /// # Errors
    /// A [`Refusal`] that says what is wrong with the connection string or the database.
    pub async fn connect(settings: Settings) -> Result<Self, Refusal> {
        let app = Self::unchecked(settings).await?;
        let settings = &app.settings;
        preflight::check(&app.database, &settings.target.partner_label, settings.ticker.enabled).await?;
        Ok(app)
    }

    /// The same for a command that only reads: the user need not be allowed to write, and how the target is, is not
    /// its business.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_to_read(settings: Settings) -> Result<Self, Refusal> {
        let app = Self::unchecked(settings).await?;
        preflight::server(&app.database).await?;
        Ok(app)
    }

    /// The same without a look at the database, which may not even be there: for `doctor`, which looks itself.
    ///
    /// # Errors
    /// A [`Refusal`] that says what is wrong with the connection string.
    pub async fn unchecked(settings: Settings) -> Result<Self, Refusal> {
        let primary_changes = PrimaryChanges::default();
        let database = connect(&settings, &primary_changes).await?;
        let metrics = Metrics::new().map_err(|error| Refusal::new(Exit::Usage, error.to_string()))?;
        let health = Health::new(settings.health.max_lag, settings.health.max_retry, settings.stream.await_time);
        let (settings, metrics, health) = (Arc::new(settings), Arc::new(metrics), Arc::new(health));
        let (survey, clock) = (Arc::default(), Clock::of_process());
        Ok(Self { settings, database, primary_changes, metrics, health, survey, clock })
    }

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

    /// Takes the lease for a command that writes, so that no instance writes beside it. `beside` goes on
    /// after "an instance is running and": what would go wrong, and what to do.
    ///
    /// # Errors
    /// A [`Refusal`] while an instance leads, or when the database fails.
    pub async fn take_lease(&self, beside: &str) -> Result<Lease, Refusal> {
        let lease = Lease::acquire(&self.database, &holder(), self.settings.lease.duration).await?;
        if let Some(lease) = lease {
            return Ok(lease);
        }
        let leader = lease::current(&self.database).await?;
        let leader = leader.map_or_else(|| "another process".to_owned(), |leader| leader.name);
        Err(Refusal::new(Exit::Findings, format!("an instance is running ({leader}) and {beside}")))
    }

    /// The service, until SIGTERM or Ctrl-C.
    ///
    /// # Errors
    /// A [`Refusal`] when it cannot start, or must stop for good.
    pub async fn run(self) -> Result<Exit, Refusal> {
        let listen = self.settings.http.listen;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            let message =
                format!("http.listen: cannot listen on {listen}: {error}; choose another port or stop what has it");
            Refusal::new(Exit::Usage, message)
        })?;
        if let Ok(address) = listener.local_addr() {
            info!(%address, "serving /metrics and the probes");
        }
        let stop = CancellationToken::new();
        let mut group = Group::new(&stop);
        let holder = holder();
        group.spawn(Task::Http, serve(listener, router(Shown::of(&self, &holder)), group.stop.clone()));
        group.spawn(Task::Survey, survey::watch(self.clone(), group.stop.clone()));
        group.spawn(Task::Signals, signals(group.stop.clone()));
        let leadership = self.clone().take_turns(holder, group.stop.clone());
        group.spawn(Task::Pipeline, leadership);
        match group.join(Task::Pipeline).await {
            Ok(()) => Ok(Exit::Done),
            Err(failure) => Err(Refusal::new(Exit::Findings, format!("{failure}; {}", failure.advice()))),
        }
    }

    /// Competes for the lease; leads; competes again when it was lost.
    async fn take_turns(self, holder: String, stop: CancellationToken) -> Result<(), Failure> {
        while let Some(lease) = self.wait_for_lease(&holder, &stop).await {
            info!(term = lease.term, "leading");
            self.metrics.leader.set(1);
            self.metrics.lease_term.set(lease.term);
            self.health.set_role(Role::Leader);
            let outcome = lead::lead(&self, lease.clone(), &stop).await;
            self.metrics.leader.set(0);
            if let Err(failure) = lease.release().await {
                warn!(error = %failure, "the lease could not be given back; it ends by itself");
            }
            match outcome {
                Ok(()) => {}
                Err(Failure::LeaseLost) => warn!("the lease was lost; standing by"),
                Err(failure) => {
                    tracing::error!(error = %failure, advice = failure.advice(), "the leadership ended");
                    self.health.trouble(Part::Lease, &failure, true);
                    // Long enough for another instance to try, short enough to be of use alone.
                    let pause = tokio::time::sleep(Duration::from_secs(2));
                    tokio::select! { () = stop.cancelled() => {}, () = pause => {} }
                }
            }
        }
        Ok(())
    }

    /// Stands by until the lease is free; `None` when the process is to end.
    async fn wait_for_lease(&self, holder: &str, stop: &CancellationToken) -> Option<Lease> {
        let duration = self.settings.lease.duration;
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            if stop.is_cancelled() {
                return None;
            }
            let acquired = match Lease::acquire(&self.database, holder, duration).await {
                Ok(Some(mut lease)) => lead::raise_term(self, &mut lease).await.map(|()| Some(lease)),
                other => other,
            };
            let delay = match acquired {
                Ok(Some(lease)) => return Some(lease),
                Ok(None) => {
                    if self.health.role() != Role::Standby {
                        info!("another instance leads; standing by");
                        self.health.set_role(Role::Standby);
                    }
                    self.health.works(Part::Lease);
                    delays.reset();
                    // A standby follows within a second of a clean stop.
                    (duration / 5).min(Duration::from_millis(500))
                }
                Err(failure) => {
                    self.health.trouble(Part::Lease, &failure, false);
                    warn!(error = %failure, advice = failure.advice(), "the lease could not be asked for");
                    delays.next_delay()
                }
            };
            tokio::select! { () = stop.cancelled() => return None, () = tokio::time::sleep(delay) => {} }
        }
    }
}

/// A client whose reads are of the primary and whose writes wait for a majority, whatever the
/// connection string says: a stale read would be projected as if it were current. Reads show only what a majority has:
/// a failover may undo the rest.
async fn connect(settings: &Settings, primary_changes: &PrimaryChanges) -> Result<CausalDatabase, Refusal> {
    let uri = settings.mongodb.uri.expose_secret();
    let mut options = ClientOptions::parse(uri).await.map_err(|error| {
        // The driver's message may quote the string, and with it a password.
        let advice = "expected mongodb://[user:password@]host:port/?options, special characters percent-encoded";
        let reason = match &*error.kind {
            mongodb::error::ErrorKind::DnsResolve { message, .. } => message.clone(),
            _ => "it cannot be understood".to_owned(),
        };
        Refusal::new(Exit::Usage, format!("mongodb.uri: {reason}; {advice}"))
    })?;
    options.app_name.get_or_insert_with(|| "stream-processor".to_owned());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.read_concern = Some(ReadConcern::majority());
    options.write_concern = Some(WriteConcern::majority());
    options.server_selection_timeout.get_or_insert(Duration::from_secs(10));
    options.connect_timeout.get_or_insert(Duration::from_secs(5));
    options.sdam_event_handler = Some(primary_changes.handler());
    let client = Client::with_options(options)
        .map_err(|error| Refusal::new(Exit::Usage, format!("mongodb.uri: {}", describe(&error))))?;
    Ok(CausalDatabase::new(client.database(&settings.mongodb.database)))
}

/// Turns SIGTERM and Ctrl-C into the cancellation of `stop`, and returns.
pub(crate) async fn signals(stop: CancellationToken) -> Result<(), Failure> {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM: finishing the batch and saving the position"),
                _ = interrupt.recv() => info!("interrupted: finishing the batch and saving the position"),
                () = stop.cancelled() => {}
            }
        }
        _ => {
            warn!("signals cannot be caught: the process can only be killed, which loses nothing");
            stop.cancelled().await;
        }
    }
    stop.cancel();
    Ok(())
}
