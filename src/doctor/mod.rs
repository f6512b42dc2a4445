//! The command `doctor` (spec 06): looks at everything that the service rests on, and says of each thing whether it
//! is well, why, and what to do. Writes nothing. What may not be read stays unknown.

mod database;
mod position;
mod reach;

use std::io::IsTerminal as _;

use serde::Serialize;

use crate::context::Context;
use crate::error::{Failure, command_code};
use crate::refusal::Exit;
use crate::refusal::Refusal;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    /// As it should be.
    Ok,
    /// It works, but somebody should know; or it is not known.
    Warning,
    /// It must be put right.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub check: &'static str,
    /// How it is.
    pub verdict: CheckVerdict,
    /// Why.
    pub found: String,
    /// What to do.
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

    /// What could not be looked at.
    fn unknown(check: &'static str, failure: &Failure) -> Self {
        match failure {
            Failure::Read(error) if command_code(error) == Some(13) => {
                Self::warning(check, "unknown: the user of mongodb.uri may not read it", "see the privileges above")
            }
            failure => Self::failed(check, format!("unknown: {failure}"), failure.advice()),
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

/// Runs the command; prints what it found on the standard output.
///
/// # Errors
/// Never for what it looks at: that is its result.
#[expect(clippy::print_stdout, reason = "what the command is asked for")]
pub async fn doctor(context: Context, as_json: bool) -> Result<Exit, Refusal> {
    let (checks, reachable) = examine(&context).await;
    let failed = checks.iter().filter(|check| check.verdict == CheckVerdict::Failed).count();
    let warnings = checks.iter().filter(|check| check.verdict == CheckVerdict::Warning).count();
    if as_json {
        println!("{:#}", serde_json::json!({ "ok": failed == 0, "checks": checks }));
    } else {
        let colors = context.settings.log.colors && std::io::stdout().is_terminal();
        checks.iter().for_each(|check| println!("{}", check.text(colors)));
        println!("{failed} to fix, {warnings} to know of, {} well", checks.len() - failed - warnings);
    }
    Ok(match (reachable, failed) {
        (false, _) => Exit::Database,
        (true, 0) => Exit::Done,
        (true, _) => Exit::Findings,
    })
}

/// All checks, and whether the server could be reached.
async fn examine(context: &Context) -> (Vec<Check>, bool) {
    let server = database::server(context).await;
    let reachable = server.verdict != CheckVerdict::Failed;
    let mut checks = vec![server];
    if reachable {
        checks.extend(database::privileges(context).await);
        checks.extend(database::collections(context).await);
        checks.extend(database::indexes(context).await);
        checks.extend(database::ids(context).await);
        checks.push(database::validator(context).await);
        checks.push(database::clock(context).await);
        checks.push(position::phase(context).await);
        checks.push(position::leader(context).await);
        checks.extend(position::oplog(context).await);
    }
    checks.push(reach::smtp(context).await);
    checks.push(reach::directory(context).await);
    (checks, reachable)
}
