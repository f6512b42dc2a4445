//! The clock of the server. What decides something goes by it: a stored time must not depend on the machine that
//! stored it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::{DateTime, doc};
use mongodb::Database;

use super::deadline::with_deadline;
use crate::clock::{self, now};
use crate::error::Failure;

/// The clock of the primary, for what is decided by a time that is stored.
///
/// # Errors
/// [`Failure::Read`].
pub async fn server_time(database: &Database) -> Result<DateTime, Failure> {
    let hello = with_deadline(database.run_command(doc! { "hello": 1 })).await.map_err(Failure::Read)?;
    let unknown = |_| Failure::OwnDocument { collection: "hello", field: "localTime" };
    hello.get_datetime("localTime").copied().map_err(unknown)
}

/// The clock by which the ticker goes.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The server's.
    Server,
    /// One that a test sets: a file with a time, RFC 3339. Exists only with the feature `failpoints`.
    Manual(PathBuf),
}

impl Clock {
    /// The clock of this process.
    #[must_use]
    pub fn of_process() -> Self {
        clock::manual().map_or(Self::Server, Self::Manual)
    }

    /// Its time.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn now(&self, database: &Database) -> Result<DateTime, Failure> {
        match self {
            Self::Server => server_time(database).await,
            Self::Manual(file) => Ok(written(file)),
        }
    }

    /// How long to rest before looking at it again: its time may jump, forwards and backwards.
    #[must_use]
    pub fn rest(&self) -> Duration {
        match self {
            Self::Server => Duration::from_millis(500),
            Self::Manual(_) => Duration::from_millis(10),
        }
    }
}

fn written(file: &Path) -> DateTime {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    DateTime::parse_rfc3339_str(text.trim()).unwrap_or_else(|_| now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_says_what_was_set() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("now");
        for time in ["2026-03-29T01:00:00Z", "2026-03-28T01:00:00.5Z"] {
            std::fs::write(&file, time).unwrap();
            assert_eq!(written(&file), DateTime::parse_rfc3339_str(time).unwrap());
        }
    }
}
