//! The answer of `/readyz`: whether this instance is ready, and every reason against it (spec 06, "HTTP").

use serde::Serialize;

use super::health::{Health, Role};

/// The reason against readiness until the first answer about the lease.
pub(crate) const STARTING: &str = "starting: this instance does not know yet who has the lease";
/// The reason of a halt, with the remedy.
const HALTED: &str = "the position of the change stream is lost and stream.on_history_lost = \"halt\": decide with \
    `stream-processor resume --reason TEXT`, or start with \"resync\" to continue from now and run a resync";

/// The answer of `/readyz`.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    /// True when there is no reason against readiness.
    pub ready: bool,
    pub role: Role,
    /// The lag in seconds; null while unknown.
    pub lag_seconds: Option<f64>,
    /// The reasons why the instance is not ready, each with advice.
    pub reasons: Vec<String>,
}

impl Health {
    /// The answer of `/readyz`.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let lag = self.lag();
        let away = self.reachability.problem();
        let (mut is_paused, mut is_halted) = (false, false);
        let (role, mut reasons) = self.with(|state| {
            let bad = state
                .troubles
                .iter()
                .filter(|(_, trouble)| trouble.at_once || trouble.since.elapsed() >= self.max_retry);
            let reasons = bad.map(|(_, trouble)| format!("{}; {}", trouble.problem, trouble.advice));
            let halted = state.halted.then(|| HALTED.to_owned());
            let dropped = state.known_dropped().map(|name| {
                format!(
                    "source_collection_dropped: {name} was dropped or renamed; restore it: a resync \
                     follows when it is there again; if the drop was intended, create it empty and restart"
                )
            });
            // While MongoDB is away, its silence needs no other reason.
            let silent = state.silence().filter(|_| away.is_none()).map(|silence| {
                format!(
                    "the stream delivered no event for {} s, not even the canary: it is stuck; read the log, and \
                     restart if this does not end",
                    silence.as_secs()
                )
            });
            let reasons = away.clone().into_iter().chain(reasons);
            (is_paused, is_halted) = (state.paused, state.halted);
            (state.role(), reasons.chain(halted).chain(dropped).chain(silent).collect::<Vec<String>>())
        });
        match (role, lag) {
            (Role::Starting, _) => reasons.push(STARTING.to_owned()),
            // A halted leader reads nothing, so its lag does not shrink, and the reason of the halt says what to do.
            (Role::Leader, _) if is_halted => {}
            // A pause is what a person wants, so a rolling deploy must not wait for its end.
            (Role::Leader, None) if is_paused => {}
            (Role::Leader, None) => reasons.push("the change stream has not answered yet".to_owned()),
            // The lag shrinks by itself while the stream catches up, so this reason asks for nothing.
            (Role::Leader, Some(lag)) if lag > self.max_lag.as_secs_f64() && self.is_catching_up() => {
                reasons.push(format!(
                    "catching up: {lag:.0} s behind, more than {} s; nothing to do, the stream reads the oplog",
                    self.max_lag.as_secs()
                ));
            }
            (Role::Leader, Some(lag)) if lag > self.max_lag.as_secs_f64() => {
                reasons.push(format!("lag of {lag:.0} s, more than {} s", self.max_lag.as_secs()));
            }
            _ => {}
        }
        Readiness { ready: reasons.is_empty(), role, lag_seconds: lag, reasons }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bson::Timestamp;

    use super::super::health::{DEAD_AFTER, HealthPart};
    use super::*;
    use crate::clock;

    #[test]
    fn a_loop_without_a_sign_of_life_is_dead_unless_the_leader_is_halted() {
        let second = Duration::from_secs(1);
        let health = Health::new(second, second, second);
        let long_ago = clock::instant().checked_sub(DEAD_AFTER + second).unwrap();
        health.with(|state| state.beats.insert(HealthPart::Pipeline, long_ago));
        assert_eq!(health.dead(), [HealthPart::Pipeline]);
        health.halt();
        assert_eq!(health.dead(), []);
    }

    #[test]
    fn a_halted_leader_does_not_say_that_it_catches_up() {
        let second = Duration::from_secs(1);
        let health = Health::new(second, second, second);
        health.set_role(Role::Leader);
        health.leads_until(clock::instant() + Duration::from_hours(1));
        health.applied(Timestamp { time: 1_000, increment: 1 });
        health.catching_up(Timestamp { time: 1_000, increment: 1 }, Timestamp { time: 1_100, increment: 1 });
        assert!(health.readiness().reasons[0].starts_with("catching up"), "{:?}", health.readiness());
        health.halt();
        assert_eq!(health.readiness().reasons, [HALTED]);
        assert!(!health.is_catching_up());
    }
}
