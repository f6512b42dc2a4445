//! The part of the table of keys about the ticker: one section per time-based job of spec 05, with the default cron
//! expressions of the job. Cron expressions are plain text here; `schedule` parses them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::key::{ConfigKey, Fallback, Section, ValueKind};

const DAY: Duration = Duration::from_hours(24);

/// The settings of `[ticker]`.
#[derive(Debug, Clone)]
pub struct TickerSettings {
    /// False when no time-based job runs by itself, whatever the settings of the job say.
    pub enabled: bool,
    /// The name of the time zone of the cron expressions, such as `Europe/Paris`.
    pub time_zone: String,
    /// True when `anonymize-inactive-users` also anonymises recruiters whose user exists nowhere.
    pub anonymizes_orphans: bool,
    /// The settings of each time-based job, by the name of the job.
    pub jobs: BTreeMap<&'static str, JobSettings>,
}

/// The settings of `[ticker.jobs.<name>]`.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// True when the job runs by itself.
    pub enabled: bool,
    /// The cron expressions; empty for a job that only runs by hand.
    pub crons: Vec<String>,
    /// The age below which a missed occurrence is still run.
    pub catch_up: Duration,
    /// The expirations that the job is about; `None` for a job that is no reminder.
    pub window: Option<ReminderWindow>,
}

/// The expirations that a reminder is about, as times from the run. Both ends belong to the window (spec 09,
/// "Reminders").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReminderWindow {
    /// The time from the run to the first expiration.
    pub from: Duration,
    /// The time from the run to the last expiration.
    pub to: Duration,
}

/// The section of the ticker, then one section per time-based job.
#[must_use]
pub(super) fn sections() -> Vec<Section> {
    let mut sections = vec![ticker()];
    sections.extend(JOBS.iter().map(JobKeys::section));
    sections
}

/// The names of the time-based jobs (spec 05).
pub(super) fn job_names() -> impl Iterator<Item = &'static str> {
    JOBS.iter().map(|job| job.name)
}

/// True for a job with the keys `window_from` and `window_to`.
pub(super) fn has_window(name: &str) -> bool {
    JOBS.iter().any(|job| job.name == name && job.window.is_some())
}

fn ticker() -> Section {
    Section::new(
        "ticker",
        "The time-based jobs. Each has a section below: `enabled` (whether it runs by itself), `cron` (when: \
         an expression or a list of them), `catch_up` (a run that was missed while nothing was running is \
         made up for if it is younger than this). The reminders also have `window_from` and `window_to`: they \
         are about the offers that expire this long after the run, both ends included.",
        vec![
            ConfigKey::new(
                "ticker.enabled",
                ValueKind::Boolean,
                Fallback::Value("true"),
                "Off: no job runs by itself.",
            ),
            ConfigKey::new(
                "ticker.time_zone",
                ValueKind::TimeZone,
                Fallback::Value("Europe/Paris"),
                "The time zone of the cron expressions.",
            ),
        ],
    )
}

/// The defaults of one time-based job (spec 05). The settings themselves are in [`JobSettings`].
struct JobKeys {
    name: &'static str,
    enabled: &'static str,
    crons: &'static [&'static str],
    doc: &'static str,
    /// The default of the window of a reminder: its beginning and its end.
    window: Option<[&'static str; 2]>,
}

impl JobKeys {
    const fn on(name: &'static str, crons: &'static [&'static str], doc: &'static str) -> Self {
        Self { name, enabled: "true", crons, doc, window: None }
    }

    /// A job that only runs by hand until the configuration enables it. Without cron expressions, the configuration must
    /// give these too.
    const fn off(name: &'static str, crons: &'static [&'static str], doc: &'static str) -> Self {
        Self { name, enabled: "false", crons, doc, window: None }
    }

    const fn window(self, from: &'static str, to: &'static str) -> Self {
        Self { window: Some([from, to]), ..self }
    }

    fn section(&self) -> Section {
        let path = format!("ticker.jobs.{}", self.name);
        let enabled = Fallback::Value(self.enabled);
        let bounds = ValueKind::Duration { min: Duration::ZERO, max: DAY.saturating_mul(31) };
        let mut keys = vec![
            ConfigKey::new(format!("{path}.enabled"), ValueKind::Boolean, enabled, ""),
            ConfigKey::new(format!("{path}.cron"), ValueKind::Crons, Fallback::List(self.crons), ""),
            ConfigKey::new(format!("{path}.catch_up"), bounds, Fallback::Value("24h"), ""),
        ];
        if ORPHANS.starts_with(&format!("{path}.")) {
            let doc = "Also recruiters whose user exists nowhere and that nobody touched for two years.";
            keys.push(ConfigKey::new(ORPHANS, ValueKind::Boolean, Fallback::Value("true"), doc));
        }
        let window = ValueKind::Duration { min: Duration::ZERO, max: DAY.saturating_mul(60) };
        let ends = self.window.into_iter().flat_map(|[from, to]| [("window_from", from), ("window_to", to)]);
        keys.extend(
            ends.map(|(end, default)| ConfigKey::new(format!("{path}.{end}"), window, Fallback::Value(default), "")),
        );
        Section::new(path, self.doc, keys)
    }
}

/// The path of the key that only `anonymize-inactive-users` has.
pub(super) const ORPHANS: &str = "ticker.jobs.anonymize-inactive-users.orphans";

const JOBS: &[JobKeys] = &[
    JobKeys::on("remind-expiring-offers-j7", &["20 9 * * *"], "An e-mail to each user whose offers expire in a week.")
        .window("6d", "7d"),
    JobKeys::on("remind-expiring-offers-j1", &["25 9 * * *"], "An e-mail to each user whose offers expire in a day.")
        .window("0s", "1d"),
    JobKeys::on("cancel-expired-offers", &["15 0 * * *", "0 * * * *"], "Cancels offers past their expiration."),
    JobKeys::off("cap-offer-expirations", &["30 0 * * *"], "Limits expirations to two months from now."),
    JobKeys::off("fill-missing-start-dates", &["35 0 * * *"], "Gives a start date to active offers without one."),
    JobKeys::off("repair-offer-data", &["40 0 * * *"], "Repairs safe cases and reports the rest."),
    JobKeys::on("refresh-pending-establishments", &["10 0 * * *"], "Looks pending establishments up in the directory."),
    JobKeys::on("send-introductions", &["55 1 * * *"], "Introduces offers without applications to a training centre."),
    JobKeys::off("report-duplicate-recruiters", &[], "Reports recruiters with the same siret and e-mail."),
    JobKeys::off("full-sync", &["0 3 * * *"], "Projects every recruiter again."),
    JobKeys::on("anonymize-inactive-users", &["0 1 * * *"], "Anonymises users inactive for two years."),
    JobKeys::off("analyze-closed-companies", &[], "Reports active offers of closed companies."),
    JobKeys::on("sync-recruiter-status", &["*/15 * * * *"], "Copies the status of recruiters to their offers."),
    JobKeys::on("retry-dead-letters", &["* * * * *"], "Looks at dead letters again when they are due."),
    JobKeys::on("verify", &["30 4 * * *"], "Compares all offers with their recruiters."),
];
