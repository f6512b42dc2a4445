//! Waits for an answer of the server, but not for ever. The driver has no such limit: it notices that a whole server is
//! silent, not that one command is, on a connection whose other side is gone or in a server that hangs.

use std::future::IntoFuture;
use std::io;
use std::time::Duration;

use mongodb::error::Error as MongoError;

/// The longest that one command may take. A scan of a large collection that is not in memory takes seconds; one that takes
/// longer than this would be given up at every attempt.
const LONGEST: Duration = Duration::from_secs(30);

/// The answer. What is given up may still be done by the server: like a command whose connection was cut, it is one that
/// can be sent again.
///
/// # Errors
/// Those of `asking`; a network error when there is no answer.
pub async fn answered<T, E: From<MongoError>>(asking: impl IntoFuture<Output = Result<T, E>>) -> Result<T, E> {
    let answer = tokio::time::timeout(LONGEST, asking.into_future()).await;
    answer.unwrap_or_else(|_| Err(MongoError::from(io::Error::from(io::ErrorKind::TimedOut)).into()))
}
