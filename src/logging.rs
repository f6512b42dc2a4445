//! Sets up `tracing` once: JSON or text on standard error (spec 06, "Logs"). The settings are arguments; no environment
//! variable is read here. Standard output stays free for the output of commands.

use std::io::IsTerminal;

use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{DEFAULT_LEVEL, LogFormat, LogSettings};
use crate::progress::LinesBesideBar;

/// Directives that silence libraries with many log lines, and the spans of traces, which would hide the names of the deployment.
/// A directive for the same library in `log.level` wins.
const QUIET: &str = "mongodb=warn,hickory=warn,rustls=warn,hyper=warn,otel_spans=off";

/// The reasons for which logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `log.level` has directives that `EnvFilter` cannot parse.
    #[error("log.level cannot be parsed: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// This process already has a logger.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Who writes the log: the service, for machines and people who look back, or a command, for the person who waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    Service,
    Command,
}

/// A layer beside that of the log. It has its own filter, so the level of the log is not its own.
pub type OtherLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Sets another level for the log of this process.
pub struct LevelHandle(reload::Handle<EnvFilter, Registry>);

impl std::fmt::Debug for LevelHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LevelHandle")
    }
}

impl LevelHandle {
    /// Sets the level; false when the log is no longer there.
    ///
    /// # Errors
    /// [`LoggingError::Level`].
    pub(crate) fn set(&self, level: &str) -> Result<bool, LoggingError> {
        Ok(self.0.reload(filter(level)?).is_ok())
    }
}

/// Sets up logging for the whole process. A command tells warnings only, unless `log.level` asks for more, in lines
/// without time and place; as JSON only where `log.format` says so. `others` get the same events and spans.
///
/// # Errors
/// A [`LoggingError`] when the level cannot be parsed, or on a second call.
pub fn init(
    settings: &LogSettings,
    speaker: Speaker,
    others: impl IntoIterator<Item = OtherLayer>,
) -> Result<LevelHandle, LoggingError> {
    let terminal = std::io::stderr().is_terminal();
    let is_command = speaker == Speaker::Command;
    let json = if is_command { settings.format == LogFormat::Json } else { is_json(settings) };
    let level = if is_command && settings.level == DEFAULT_LEVEL { "warn" } else { &settings.level };
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(|| LinesBesideBar).with_ansi(terminal && settings.colors && !json);
    let lines = if json {
        lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
    } else if is_command {
        lines.without_time().with_target(false).with_filter(filter).boxed()
    } else {
        lines.with_filter(filter).boxed()
    };
    let layers: Vec<OtherLayer> = std::iter::once(lines).chain(others).collect();
    tracing_subscriber::registry().with(layers).try_init()?;
    Ok(LevelHandle(handle))
}

/// Tells the log, as JSON, why the service cannot run. The configuration may be at fault, so the log need not be set up.
pub fn tell_refusal(error: &str, exit_code: u8) {
    if !tracing::dispatcher::has_been_set() {
        let settings = LogSettings { format: LogFormat::Json, level: DEFAULT_LEVEL.to_owned(), colors: false };
        // Another logger would tell it too.
        let _ = init(&settings, Speaker::Service, []);
    }
    tracing::error!(error, exit_code, "the service cannot run");
}

/// True when the lines of the log are JSON.
#[must_use]
pub fn is_json(settings: &LogSettings) -> bool {
    match settings.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    }
}

fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::builder().parse(format!("{QUIET},{level}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatty_libraries_stay_at_warn_when_everything_else_is_at_debug() {
        let filter = filter("debug").unwrap().to_string();
        assert!(filter.contains("mongodb=warn") && filter.contains("debug"), "{filter}");
    }

    #[test]
    fn a_library_named_in_the_level_is_heard() {
        let filter = filter("info,mongodb=trace").unwrap().to_string();
        assert!(filter.contains("mongodb=trace") && !filter.contains("mongodb=warn"), "{filter}");
    }
}
