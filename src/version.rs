//! What this program was built from, for `--version`, the status page and the metric `build_info`.

use std::sync::LazyLock;

/// The version of the release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from; `development` for a debug build, `unknown` where nobody could tell.
pub const COMMIT: &str = env!("STREAM_PROCESSOR_COMMIT");
/// The version of the time zones that were built in.
pub const TIME_ZONES: &str = chrono_tz::IANA_TZDB_VERSION;
/// For `--version`: the time-based jobs go by the time zones that were built in.
pub static LONG: LazyLock<String> = LazyLock::new(|| format!("{VERSION} (commit {COMMIT}, time zones {TIME_ZONES})"));
