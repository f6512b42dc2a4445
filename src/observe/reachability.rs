//! Whether MongoDB answers a ping, which tells a database that is away from a slow one. The task
//! `service::database_watch` reports every ping here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// The number of failed pings in a row after which MongoDB counts as away. One failed ping may be a broken connection.
const FAILED: u32 = 2;

#[derive(Debug, Clone)]
struct Silence {
    since: Instant,
    failed: u32,
    problem: String,
}

/// An outage of MongoDB that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outage {
    /// The time from the first failed ping to the answer.
    pub lasted: Duration,
    /// The time of the answer.
    pub ended: Instant,
    pub cause: String,
}

/// The last pings of this process.
#[derive(Debug, Default)]
pub(crate) struct Reachability {
    silence: Mutex<Option<Silence>>,
    /// The last outage, until a leader has told it.
    outage: Mutex<Option<Outage>>,
}

impl Reachability {
    fn with<T>(&self, change: impl FnOnce(&mut Option<Silence>) -> T) -> T {
        // A panic in another task poisons the lock, but the plain value behind it is still valid.
        change(&mut self.silence.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reports a failed ping, with the reason. True when MongoDB counts as away from now on.
    pub(crate) fn failed(&self, problem: String) -> bool {
        self.with(|silence| {
            let before = silence.take().unwrap_or_else(|| Silence {
                since: clock::instant(),
                failed: 0,
                problem: String::new(),
            });
            let failed = before.failed.saturating_add(1);
            *silence = Some(Silence { failed, problem, ..before });
            failed == FAILED
        })
    }

    /// Reports an answered ping. Returns how long MongoDB was away; `None` when it did not count as away.
    pub(crate) fn answered(&self) -> Option<Duration> {
        let before = self.with(Option::take).filter(|before| before.failed >= FAILED)?;
        let (lasted, ended) = (before.since.elapsed(), clock::instant());
        *self.last() = Some(Outage { lasted, ended, cause: before.problem });
        Some(lasted)
    }

    /// The last outage, once.
    pub(crate) fn take_outage(&self) -> Option<Outage> {
        self.last().take()
    }

    fn last(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sentence for the operator while MongoDB counts as away; otherwise `None`.
    #[must_use]
    pub(crate) fn problem(&self) -> Option<String> {
        let away = self.with(|silence| silence.clone()).filter(|silence| silence.failed >= FAILED)?;
        Some(format!(
            "MongoDB has not answered for {} s ({}); check that it runs and that the network reaches it: the service goes \
             on by itself when it answers",
            away.since.elapsed().as_secs(),
            away.problem
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failed_pings_in_a_row_mean_away_and_an_answer_ends_it() {
        let pings = Reachability::default();
        assert!(!pings.failed("a".to_owned()));
        assert_eq!((pings.problem(), pings.answered()), (None, None));
        assert!(!pings.failed("b".to_owned()));
        assert!(pings.failed("network: connection refused".to_owned()), "told once");
        assert!(!pings.failed("network: timed out".to_owned()));
        let problem = pings.problem().unwrap();
        assert!(problem.contains("network: timed out"), "{problem}");
        assert!(pings.answered().is_some() && pings.problem().is_none());
        assert_eq!(pings.take_outage().unwrap().cause, "network: timed out");
        assert_eq!(pings.take_outage(), None, "an outage is told once");
    }
}
