//! Failpoints: named points in the code at which a test ends or stops the process, or lets it panic.
//! They exist in debug builds only, so nothing that is shipped has them.

/// Marks a failpoint, at which the process may send itself a signal.
///
/// `STREAM_PROCESSOR_FAILPOINT=written/3/KILL` sends SIGKILL when the process passes `written` for the third time, and
/// `written/3/panic` panics there.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "a test asked for it")]
#[expect(clippy::disallowed_methods, reason = "no setting: nobody but a test of this package can give it")]
pub(crate) fn passed(point: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static TIMES: AtomicUsize = AtomicUsize::new(0);
    let setting = std::env::var("STREAM_PROCESSOR_FAILPOINT").unwrap_or_default();
    let [name, times, signal] = setting.split('/').collect::<Vec<_>>()[..] else { return };
    if name == point && times.parse() == Ok(TIMES.fetch_add(1, Ordering::Relaxed) + 1) {
        if signal == "panic" {
            panic!("somebody@example.com");
        }
        // SIGKILL arrives while this waits; after another signal the process goes on.
        let kill = format!("kill -s {signal} $PPID");
        drop(std::process::Command::new("sh").args(["-c", &kill]).status());
    }
}

/// Does nothing in release builds.
#[cfg(not(debug_assertions))]
pub(crate) fn passed(_point: &str) {}
