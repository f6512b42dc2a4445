//! Reports of errors in Sentry's protocol: the lines of the log at ERROR, and panics. A report has the fixed message of a
//! line and a few of its fields, masked; it never has a value of a document. Nobody waits for a report, but for two seconds
//! at the end of the process.

mod delivery;
mod repetition;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{self, Location};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sentry_core::protocol::{Event, Level as ReportLevel};
use sentry_core::types::Dsn;
use sentry_core::{Client, ClientOptions};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event as Line, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use self::delivery::Delivery;
use self::repetition::Repetition;
use crate::clock;
use crate::masking::without_addresses_and_paths;
use crate::version;

/// The fields of a line that a report has. All others stay here: a new field must be looked at before it leaves.
const FIELDS: [&str; 12] = [
    "advice",
    "before",
    "cause",
    "collection",
    "command",
    "error",
    "exit_code",
    "from",
    "next",
    "operation",
    "to",
    "verdict",
];
/// The longest value of a field in a report, in characters.
const LONGEST_VALUE: usize = 1_000;
/// The time that the reports which are left have at the end of the process.
const AT_THE_END: Duration = Duration::from_secs(2);

/// What tells the deployment and the process of a report from others.
#[derive(Debug, Clone, Copy)]
pub struct ReportOrigin<'a> {
    /// `environment` of the configuration.
    pub environment: &'static str,
    /// The name of the instance.
    pub instance: &'a str,
}

/// The reporter of this process. Clones share it.
#[derive(Debug, Clone)]
pub struct ErrorReports(Arc<Reporter>);

struct Reporter {
    client: Client,
    repetition: Mutex<Repetition>,
}

impl fmt::Debug for Reporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reporter")
    }
}

impl ErrorReports {
    /// Starts the reporter; `None` without a DSN. From now on it also reports panics.
    #[must_use]
    pub fn start(dsn: Option<&SecretString>, origin: ReportOrigin<'_>) -> Option<Self> {
        // The DSN was checked with the configuration.
        let dsn: Dsn = dsn?.expose_secret().parse().ok()?;
        let mut options = ClientOptions::new();
        options.release = Some(Cow::Owned(format!("stream-processor@{}", version::VERSION)));
        options.environment = Some(Cow::Borrowed(origin.environment));
        options.server_name = Some(Cow::Owned(origin.instance.to_owned()));
        options.send_default_pii = false;
        options.max_breadcrumbs = 0;
        options.default_integrations = false;
        options.transport = Some(Arc::new(Arc::new(Delivery::start(&dsn)?)));
        options.dsn = Some(dsn);
        let reporter = Reporter { client: Client::with_options(options), repetition: Mutex::default() };
        let reports = Self(Arc::new(reporter));
        reports.follow_panics();
        Some(reports)
    }

    /// The layer of `tracing` that reports the program's own lines at ERROR, whatever the level of the log is.
    #[must_use]
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> Box<dyn Layer<S> + Send + Sync> {
        // Libraries may quote what they work on.
        let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::ERROR);
        Lines(self.clone()).with_filter(own).boxed()
    }

    /// Reports why the service cannot run, where no line of the log says so.
    pub fn cannot_run(&self, error: &str, exit_code: u8) {
        let fields = BTreeMap::from([("error", error.to_owned()), ("exit_code", exit_code.to_string())]);
        self.report("the service cannot run", "stream_processor", fields, ReportLevel::Fatal);
    }

    /// Waits until the queued reports are sent, for two seconds at most.
    pub fn finish(&self) {
        self.0.client.flush(Some(AT_THE_END));
    }

    /// Lets the hook for panics report them too. The payload of a panic may quote a value, so a report has the place only.
    fn follow_panics(&self) {
        let (reports, otherwise) = (self.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |panic| {
            otherwise(panic);
            reports.panicked(panic.location());
        }));
    }

    fn panicked(&self, location: Option<&Location<'_>>) {
        let place = location.map_or_else(
            || "unknown".to_owned(),
            |location| format!("{}:{}", within_crate(location.file()), location.line()),
        );
        self.report("a panic", "panic", BTreeMap::from([("place", place)]), ReportLevel::Fatal);
    }

    fn report(&self, message: &str, logger: &str, fields: BTreeMap<&'static str, String>, level: ReportLevel) {
        let fields: BTreeMap<&str, String> = fields.into_iter().map(|(name, value)| (name, bounded(&value))).collect();
        let mut repetition = self.0.repetition.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(repeated) = repetition.admits(message, &fields, clock::instant()) else { return };
        drop(repetition);
        let mut event = Event::new();
        event.level = level;
        event.message = Some(message.to_owned());
        event.logger = Some(logger.to_owned());
        // Reports of one message are one issue, but each verdict and each place of a panic is its own.
        let parts = ["verdict", "place"].into_iter().filter_map(|name| fields.get(name).cloned());
        event.fingerprint = Cow::Owned([message.to_owned()].into_iter().chain(parts).map(Cow::Owned).collect());
        event.tags.insert("commit".to_owned(), version::COMMIT.to_owned());
        event.extra.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
        if repeated > 0 {
            event.extra.insert("repeated".to_owned(), repeated.into());
        }
        self.0.client.capture_event(event, None);
    }
}

/// The file of a panic without the part of the path that only tells about the machine of the build.
fn within_crate(file: &str) -> String {
    let parts: Vec<&str> = file.split('/').collect();
    let first = if file.starts_with('/') { parts.len().saturating_sub(3) } else { 0 };
    parts.get(first..).unwrap_or_default().join("/")
}

fn bounded(value: &str) -> String {
    without_addresses_and_paths(value).chars().take(LONGEST_VALUE).collect()
}

/// Reports the lines that come to it.
struct Lines(ErrorReports);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, line: &Line<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        line.record(&mut said);
        let level = if said.fields.contains_key("exit_code") { ReportLevel::Fatal } else { ReportLevel::Error };
        self.0.report(&said.message, line.metadata().target(), said.fields, level);
    }
}

/// The message of a line, and those of its fields that a report has.
#[derive(Debug, Default)]
struct Said {
    message: String,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else if FIELDS.contains(&field.name()) {
            self.fields.insert(field.name(), value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_by_its_place_within_a_crate() {
        assert_eq!(within_crate("src/leader/halt.rs"), "src/leader/halt.rs");
        let registry = format!("/{}/someone/registry/src/index/tokio-1.54.0/src/sync.rs", "users");
        assert_eq!(within_crate(&registry), "tokio-1.54.0/src/sync.rs");
    }
}
