//! The command `doctor` (spec 06). It checks everything that the service needs, and prints a verdict, the reason and
//! the remedy for each check. It writes nothing. A check that needs a missing privilege reports "unknown".

mod database;
pub(crate) mod platform;
mod position;
mod reach;

use std::io::IsTerminal as _;

use serde::Serialize;

use crate::context::Context;
use crate::counted::counted;
use crate::error::{Failure, command_code};
use crate::json_output::JsonForm;
use crate::refusal::{Exit, Refusal, command_advice};
use crate::shown_time::shown_times;

/// The verdict of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    /// Nothing to do.
    Ok,
    /// The service works, but a person should know of the finding; or the check lacks a privilege.
    Warning,
    /// A person must correct the finding.
    Failed,
}

/// One check with its finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The name of the check, such as `oplog`. Several checks may have the same name.
    pub check: &'static str,
    pub verdict: CheckVerdict,
    /// The finding, which is the reason of the verdict.
    pub found: String,
    /// The remedy; `None` when there is nothing to do.
    pub remedy: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: CheckVerdict::Ok, found: found.into(), remedy: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: CheckVerdict::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn failed(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: CheckVerdict::Failed, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// A check that could not be made. A missing privilege is only a warning, because the privileges have a check of
    /// their own.
    fn unknown(check: &'static str, failure: &Failure) -> Self {
        match failure {
            Failure::Read(error) if command_code(error) == Some(13) => {
                Self::warning(check, "unknown: the user of mongodb.uri may not read it", "see the privileges above")
            }
            failure => Self::failed(check, format!("unknown: {failure}"), command_advice(failure)),
        }
    }

    fn of_refusal(check: &'static str, refusal: &Refusal) -> Self {
        let message = &refusal.message;
        let (found, remedy) = message.rsplit_once(": ").or_else(|| message.split_once("; ")).unwrap_or((message, ""));
        Self::failed(check, found, remedy)
    }

    fn text(&self, colors: bool) -> String {
        let (sign, color) = match self.verdict {
            CheckVerdict::Ok => ("✓", "32"),
            CheckVerdict::Warning => ("!", "33"),
            CheckVerdict::Failed => ("✗", "31"),
        };
        let sign = if colors { format!("\u{1b}[{color}m{sign}\u{1b}[0m") } else { sign.to_owned() };
        let remedy = self.remedy.as_ref().map(|remedy| format!("\n{:18}-> {remedy}", "")).unwrap_or_default();
        format!("{sign} {:<15} {}{remedy}", self.check, self.found)
    }
}

/// Runs the command and prints all checks; with `against_platform` also those of the rehearsal (spec 09). They go
/// to standard output. `allow_empty` accepts a database without `recruiters`.
///
/// # Errors
/// None: a failure of a check is a finding of that check.
#[expect(clippy::print_stdout, reason = "the output of the command")]
pub async fn doctor(
    context: Context,
    as_json: bool,
    against_platform: bool,
    allow_empty: bool,
) -> Result<Exit, Refusal> {
    let examination = Examination::make(&context, against_platform, allow_empty).await;
    if as_json {
        JsonForm::Doctor.print(examination.json());
    } else {
        let colors = context.settings.log.colors && std::io::stdout().is_terminal();
        let Examination { checks, .. } = &examination;
        checks.iter().for_each(|check| println!("{}", shown_times(&check.text(colors), context.time_zone)));
        let (failed, warnings) = (examination.count(CheckVerdict::Failed), examination.count(CheckVerdict::Warning));
        let told = counted(warnings, "warning", "warnings");
        println!("{failed} failed, {told}, {} ok", checks.len() - failed - warnings);
    }
    Ok(match (examination.is_reachable, examination.count(CheckVerdict::Failed)) {
        (false, _) => Exit::Database,
        (true, 0) => Exit::Done,
        (true, _) => Exit::Findings,
    })
}

/// All checks of one run.
#[derive(Debug)]
pub(crate) struct Examination {
    checks: Vec<Check>,
    /// False when a check of the server or of the database's name failed, so that the database was not looked at.
    is_reachable: bool,
    /// The facts of the rehearsal; `None` without one.
    platform: Option<serde_json::Value>,
}

impl Examination {
    /// Makes the checks; with `against_platform` also those of the rehearsal.
    pub(crate) async fn make(context: &Context, against_platform: bool, allow_empty: bool) -> Self {
        let (mut checks, is_reachable) = examine(context, allow_empty).await;
        let mut platform = None;
        if against_platform && is_reachable {
            let (more, facts) = platform::examine(context).await;
            checks.extend(more);
            platform = Some(facts);
        }
        Self { checks, is_reachable, platform }
    }

    /// True when the database was looked at.
    pub(crate) fn is_reachable(&self) -> bool {
        self.is_reachable
    }

    /// The fields of the JSON document of `doctor`.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut report = serde_json::Map::new();
        report.insert("ok".to_owned(), (self.count(CheckVerdict::Failed) == 0).into());
        report.insert("checks".to_owned(), serde_json::json!(self.checks));
        report.extend(self.platform.clone().map(|facts| ("platform".to_owned(), facts)));
        report.into()
    }

    fn count(&self, verdict: CheckVerdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }
}

/// All checks, and whether the checks of the server and of the database's name passed. When one of them fails, the other
/// checks of the database are left out.
async fn examine(context: &Context, allow_empty: bool) -> (Vec<Check>, bool) {
    let server = database::server(context).await;
    let mut reachable = server.verdict != CheckVerdict::Failed;
    let mut checks = vec![server];
    if reachable && !allow_empty {
        let database = database::name(context).await;
        reachable = database.verdict != CheckVerdict::Failed;
        checks.push(database);
    }
    if reachable {
        checks.extend(database::privileges(context).await);
        checks.extend(database::collections(context).await);
        checks.push(database::label(context).await);
        checks.extend(database::indexes(context).await);
        checks.extend(database::ids(context).await);
        checks.extend(database::validator(context).await);
        checks.push(database::clock(context).await);
        checks.push(position::phase(context).await);
        checks.push(position::leader(context).await);
        checks.extend(position::oplog(context).await);
    }
    checks.push(reach::smtp(context).await);
    checks.push(reach::mail_links(context));
    checks.push(reach::directory(context).await);
    checks.push(reach::geocoding(context).await);
    checks.push(reach::sentry(context).await);
    checks.push(reach::traces(context).await);
    (checks, reachable)
}
