//! What this program was built from, for `--version`, the status page and the metric `build_info`.

/// The version of the release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from; `development` for a debug build, `unknown` where nobody could tell.
pub const COMMIT: &str = env!("STREAM_PROCESSOR_COMMIT");
/// For `--version`.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("STREAM_PROCESSOR_COMMIT"), ")");
