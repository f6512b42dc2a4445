//! The checkpoints of one test in files (`tokens.store = "files"`), with everything that it may do to them.

use std::fs;
use std::path::PathBuf;

use bson::{Timestamp, doc};
use serde_json::Value;
use xtask::guarded::TemporaryFolder;

use super::database::TestDatabase;
use super::processor::Processor;
use super::runs::started_with;
use super::waiting::{PATIENCE, cluster_time_now, eventually};

/// Where one test keeps its checkpoints.
pub(crate) struct Files {
    pub folder: TemporaryFolder,
    name: String,
}

impl Files {
    /// An empty place.
    pub(crate) fn of(test: &TestDatabase) -> Self {
        Self { folder: TemporaryFolder::create("stream-processor-tokens-").unwrap(), name: test.name().to_owned() }
    }

    /// A service that is ready and keeps them there.
    pub(crate) async fn started(&self, test: &TestDatabase) -> Processor {
        let folder = self.folder.path().join("tokens");
        let settings = [
            ("STREAM_PROCESSOR__TOKENS__STORE", "files"),
            ("STREAM_PROCESSOR__TOKENS__DIRECTORY", folder.to_str().unwrap()),
            // So that it is not lost while no majority answers.
            ("STREAM_PROCESSOR__LEASE__DURATION", "10m"),
        ];
        started_with(test, &settings).await
    }

    /// The file of the checkpoint (`json`), of the history (`history.jsonl`), and what stands beside them.
    pub(crate) fn path(&self, extension: &str) -> PathBuf {
        self.folder.path().join("tokens").join(format!("{}.{extension}", self.name))
    }

    /// The checkpoint; `None` before the first.
    pub(crate) fn checkpoint(&self) -> Option<Value> {
        // A reader never finds half a file.
        Some(serde_json::from_slice(&fs::read(self.path("json")).ok()?).unwrap())
    }

    /// Its cluster time.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        let checkpoint = self.checkpoint()?;
        let part = |name| u32::try_from(checkpoint["cluster_time"][name].as_u64()?).ok();
        Some(Timestamp { time: part("t")?, increment: part("i")? })
    }

    /// Waits until everything that was written before has been handled.
    pub(crate) async fn settled(&self, test: &TestDatabase) {
        let written = cluster_time_now(&test.database).await;
        test.collection("stream_processor_canary").insert_one(doc! {}).await.unwrap();
        eventually(PATIENCE, "the checkpoint reaches the last write", async || {
            self.time().filter(|time| *time >= written)
        })
        .await;
    }
}
