//! The clock of the server. Decisions by a stored time go by this clock, because a stored time must not depend on the
//! machine that stored it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::{DateTime, doc};
use mongodb::Database;

use super::deadline::with_deadline;
use crate::clock::{self, now};
use crate::error::Failure;

/// The time of the primary, for decisions by a stored time.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn server_time(database: &Database) -> Result<DateTime, Failure> {
    let hello = with_deadline(database.run_command(doc! { "hello": 1 })).await.map_err(Failure::Read)?;
    let unknown = |_| Failure::OwnDocument { collection: "hello", field: "localTime" };
    hello.get_datetime("localTime").copied().map_err(unknown)
}

/// The clock of the ticker.
#[derive(Debug, Clone)]
pub enum Clock {
    Server,
    /// A clock that a test sets: the file holds a time in RFC 3339. Exists in debug builds only.
    Manual(PathBuf),
}

impl Clock {
    /// The manual clock if a test gives one, else the server's.
    #[must_use]
    pub fn of_process() -> Self {
        clock::manual().map_or(Self::Server, Self::Manual)
    }

    /// # Errors
    /// [`Failure::Read`].
    pub async fn now(&self, database: &Database) -> Result<DateTime, Failure> {
        match self {
            Self::Server => server_time(database).await,
            Self::Manual(file) => Ok(written(file)),
        }
    }

    /// The time between two looks at the clock. One wait until a due time is not enough, because the clock may jump
    /// forwards and backwards.
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
