//! Logs each change of the verdict, so that the log tells the same as the page at that time.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::context::Context;
use crate::error::Failure;
use crate::status::document::judged;
use crate::status::survey::Survey;
use crate::status::verdict::verdict;
use crate::status::verdict_state::{Severity, VerdictState};
use crate::tasks::pause;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// Logs each change of the state until `stop`.
///
/// # Errors
/// None.
pub(crate) async fn watch(context: Context, survey: Arc<Survey>, stop: CancellationToken) -> Result<(), Failure> {
    let mut before = VerdictState::Starting;
    while pause(&stop, INTERVAL).await {
        let now = verdict(&judged(&context, &survey));
        if now.state == before {
            continue;
        }
        let (verdict, before_word) = (now.state.word(), before.word());
        match now.severity {
            Severity::Ok => info!(verdict, before = before_word, cause = now.cause, "the verdict changed"),
            Severity::Warn => {
                warn!(verdict, before = before_word, cause = now.cause, next = now.next, "the verdict changed");
            }
            Severity::Bad => {
                error!(verdict, before = before_word, cause = now.cause, next = now.next, "the verdict changed");
            }
        }
        before = now.state;
    }
    Ok(())
}
