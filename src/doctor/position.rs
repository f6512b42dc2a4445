//! The checks of `doctor` in the service's own state: phase, leader, the oplog, and whether the oplog still holds the
//! position.

use std::time::Duration;

use resume_tokens::StoreError;

use super::Check;
use crate::config::OnHistoryLost;
use crate::context::Context;
use crate::error::Failure;
use crate::leader::lead::store;
use crate::lease;
use crate::maintenance::replay::{length_text, time_text};
use crate::mongo::deadline::with_deadline;
use crate::mongo::oplog::{NEARLY_FULL, Oplog, YOUNG_OPLOG};
use crate::phase::state;

/// The headroom below which the check is a warning, and the headroom below which it fails. The alerts have the same
/// bounds.
const HEADROOM: [Duration; 2] = [Duration::from_hours(6), Duration::from_hours(1)];
/// The window below which an oplog is too short: an outage of a night and a morning must fit into the oplog.
const SHORT_WINDOW: Duration = Duration::from_hours(24);

pub(super) async fn phase(context: &Context) -> Check {
    match state::load(&context.database, context.settings.phase.initial).await {
        Ok(current) if current.contradicted => Check::failed(
            "phase",
            "its document was changed or lost, but a tombstone says that the database was retired",
            "`stream-processor phase set shadow` goes back, if that is what you want",
        ),
        Ok(current) => {
            let entered = if current.since.is_some() { "" } else { ", not entered yet: no instance has run" };
            Check::ok("phase", format!("{}{entered}", current.phase.word()))
        }
        Err(failure) => Check::unknown("phase", &failure),
    }
}

pub(super) async fn leader(context: &Context) -> Check {
    match lease::current(&context.database).await {
        Ok(Some(leader)) => match leader.lag {
            Some(lag) if lag > context.settings.health.max_lag.as_secs_f64() => Check::warning(
                "leader",
                format!("{} leads, {lag:.0} s behind", leader.name),
                "check with `stream-processor status --watch` that it catches up",
            ),
            _ => Check::ok("leader", format!("{} leads", leader.name)),
        },
        Ok(None) => Check::warning("leader", "no instance runs", "start one: `stream-processor run`"),
        Err(failure) => Check::unknown("leader", &failure),
    }
}

/// The checks of the oplog's window, and of the position in the oplog.
pub(super) async fn oplog(context: &Context) -> Vec<Check> {
    let oplog = match Oplog::measure(&context.database).await {
        Ok(oplog) => oplog,
        Err(failure) => return vec![Check::unknown("oplog", &failure)],
    };
    let Some(oplog) = oplog else {
        let found = "unknown: the user of mongodb.uri may not read local.oplog.rs";
        return vec![Check::warning("oplog", found, "grant `find` and `collStats` on it, see deploy/mongodb-role.js")];
    };
    vec![window(&oplog), token(context, &oplog).await]
}

fn window(oplog: &Oplog) -> Check {
    let found = format!("reaches back {}", length_text(oplog.window()));
    let when_full = oplog.window_when_full();
    match oplog.used {
        // The writes of so short a time say nothing about the next days.
        Some(used) if oplog.is_young() => {
            Check::ok("oplog", format!("{found}, {:.0} % full: too young for an estimate", used * 100.0))
        }
        Some(used) if used < 1.0 => {
            let found =
                format!("{found}, {:.0} % full: about {} when it is full", used * 100.0, length_text(when_full));
            judged(when_full, found)
        }
        _ => judged(when_full, found),
    }
}

fn judged(window: Duration, found: String) -> Check {
    if window < SHORT_WINDOW {
        Check::warning(
            "oplog",
            found,
            "a longer outage causes a resync: enlarge the oplog to at least a day (replSetResizeOplog)",
        )
    } else {
        Check::ok("oplog", found)
    }
}

async fn token(context: &Context, oplog: &Oplog) -> Check {
    let checkpoint = match with_deadline(store(context).load()).await {
        Ok(Some(checkpoint)) => checkpoint,
        Ok(None) => return Check::ok("position", "none yet: the first start runs a resync"),
        Err(error @ StoreError::Garbled { .. }) => {
            return Check::failed(
                "position",
                error.to_string(),
                "`stream-processor tokens list`, then `tokens import`",
            );
        }
        Err(error) => return Check::unknown("position", &Failure::from(error)),
    };
    let time = checkpoint.cluster_time;
    if !oplog.reaches(time) {
        return Check::failed(
            "position",
            format!("{} is no longer in the oplog", time_text(time)),
            after_lost(context.settings.stream.on_history_lost),
        );
    }
    let Some(headroom) = oplog.headroom(time) else {
        return Check::ok("position", format!("{}; {YOUNG_OPLOG}", time_text(time)));
    };
    let found = format!("{}; it falls off the oplog in {}", time_text(time), length_text(headroom));
    let remedy = "check that an instance runs and catches up: `stream-processor status`";
    match HEADROOM {
        // An oplog that is not nearly full loses nothing yet, and the time until it is full is only a guess.
        [_, few] if headroom < few && oplog.used.is_some_and(|used| used > NEARLY_FULL) => {
            Check::failed("position", found, remedy)
        }
        [some, _] if headroom < some => Check::warning("position", found, remedy),
        _ => Check::ok("position", found),
    }
}

/// The remedy for a lost position. It follows the setting `stream.on_history_lost` of this configuration.
fn after_lost(on_history_lost: OnHistoryLost) -> &'static str {
    match on_history_lost {
        OnHistoryLost::Resync => {
            "start an instance: it runs a resync (stream.on_history_lost = \"resync\"); enlarge the oplog"
        }
        OnHistoryLost::Halt => {
            "an instance halts here (stream.on_history_lost = \"halt\"): start one, then \
             `stream-processor resume --reason TEXT`; enlarge the oplog"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_for_a_lost_position_follows_the_configuration() {
        assert!(after_lost(OnHistoryLost::Resync).contains("it runs a resync"));
        let halt = after_lost(OnHistoryLost::Halt);
        assert!(halt.contains("resume --reason TEXT") && !halt.contains("resync"), "{halt}");
    }
}
