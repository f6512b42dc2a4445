//! The version and the origin of this program, for `--version`, the status page and the metric `build_info`.

use std::sync::LazyLock;

/// The version of the release, from `Cargo.toml`.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit of the sources; `development` for a debug build, `unknown` where the build script found none.
pub(crate) const COMMIT: &str = env!("STREAM_PROCESSOR_COMMIT");
/// The version of the IANA time zones that are built in, such as `2025b`.
pub(crate) const TIME_ZONES: &str = chrono_tz::IANA_TZDB_VERSION;
/// The text of `--version`. The time zones belong to it because the time-based jobs go by them.
pub(crate) static LONG: LazyLock<String> =
    LazyLock::new(|| format!("{VERSION} (commit {COMMIT}, time zones {TIME_ZONES})"));
