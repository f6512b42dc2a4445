//! Named points between the stages at which a test ends the process. They exist only with the feature `failpoints`, which
//! the tests of this package ask for and no other build does.

/// The process passes the point of this name.
///
/// `STREAM_PROCESSOR_FAILPOINT=written/3/KILL` sends it SIGKILL when it passes `written` for the third time.
#[cfg(feature = "failpoints")]
#[expect(clippy::disallowed_methods, reason = "no setting: nobody but a test of this package can give it")]
pub(crate) fn passed(point: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static TIMES: AtomicUsize = AtomicUsize::new(0);
    let order = std::env::var("STREAM_PROCESSOR_FAILPOINT").unwrap_or_default();
    let [name, times, signal] = order.split('/').collect::<Vec<_>>()[..] else { return };
    if name == point && times.parse() == Ok(TIMES.fetch_add(1, Ordering::Relaxed) + 1) {
        // SIGKILL arrives while this waits; after another signal the process goes on.
        let kill = format!("kill -s {signal} $PPID");
        drop(std::process::Command::new("sh").args(["-c", &kill]).status());
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn passed(_point: &str) {}
