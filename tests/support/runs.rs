//! Runs of the service from ready to an orderly end, in settings with short pauses: a test need not wait for what
//! happens only now and then.

use std::path::Path;
use std::process::Command;

use super::database::TestDatabase;
use super::processor::{Ended, Processor};

/// A checkpoint every second and ten replies, even where nothing happens.
pub(crate) const BRISK: [(&str, &str); 2] =
    [("STREAM_PROCESSOR__STREAM__AWAIT_TIME", "100ms"), ("STREAM_PROCESSOR__TOKENS__IDLE_INTERVAL", "1s")];

/// Without the watch for foreign writes, which reads a stream of its own: a refused `getMore` is then one of the service's
/// stream.
pub(crate) const ONE_STREAM: (&str, &str) = ("STREAM_PROCESSOR__FOREIGN_WRITES__ENABLED", "false");

/// A service that is ready.
pub(crate) async fn started(test: &TestDatabase) -> Processor {
    started_with(test, &[]).await
}

/// The same with further settings.
pub(crate) async fn started_with(test: &TestDatabase, settings: &[(&str, &str)]) -> Processor {
    Processor::start_ready(test, &[&BRISK, settings].concat()).await
}

/// Ends the service with SIGTERM.
pub(crate) async fn stopped(mut processor: Processor) -> Ended {
    processor.sigterm();
    let ended = processor.until_ended().await;
    assert_eq!(ended.code, 0, "SIGTERM ends it well:\n{}", processor.last_lines());
    ended
}

/// What `LD_PRELOAD` must name so that the wall clock of a service is so many seconds ahead; compiled into `folder`.
pub(crate) fn shifted_clock(folder: &Path, shift: i64) -> String {
    let library = folder.join(format!("shifted{shift}.so"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/shifted_clock.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", &format!("-DSHIFT={shift}"), source, "-o"]).arg(&library);
    assert!(compiler.status().unwrap().success(), "the C compiler works");
    library.to_str().unwrap().to_owned()
}
