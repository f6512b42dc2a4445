//! Checkpoints in files on a disk that is full, and in a folder that cannot be written to: the service says so, waits for
//! an operator, and goes on by itself; killed meanwhile, the next one does.

use std::fs;
use std::os::unix::fs::symlink;

use xtask::mongod::TestServer;

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost_up_to_here;
use crate::support::processor::Processor;
use crate::support::state::{end_lease, until_no_resync};
use crate::support::token_folder::Files;
use crate::support::waiting::{PATIENCE, eventually};
use crate::support::workload::Workload;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_checkpoint_file_loses_nothing() {
    let full = |files: &Files| {
        // Whoever writes to this device is told by the kernel that no space is left.
        let aside = files.path("json.aside");
        symlink("/dev/full", &aside).unwrap();
        aside
    };
    let reason = "(os error 28)";
    outlasts(reason, full, |aside| fs::remove_file(aside).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_folder_that_cannot_be_written_to_loses_nothing() {
    // A file in its place: permissions would not keep root out.
    let unwritable = |files: &Files| {
        let folder = files.path("json").parent().unwrap().to_owned();
        fs::rename(&folder, folder.with_extension("away")).unwrap();
        fs::write(&folder, "").unwrap();
        folder
    };
    let reason = "cannot create";
    outlasts(reason, unwritable, |folder| {
        fs::remove_file(&folder).unwrap();
        fs::rename(folder.with_extension("away"), &folder).unwrap();
    })
    .await;
}

/// Breaks the place of the checkpoints in the middle of a stream of changes, once with a kill meanwhile.
async fn outlasts<T>(reason: &str, breaks: impl Fn(&Files) -> T, mends: impl Fn(T)) {
    let test = TestDatabase::create_on(TestServer::obtain().uri(), "faults_disk").await;
    let files = Files::of(&test);
    let mut workload = Workload::insert(&test.database, 23, 100).await;
    let mut processor = files.started(&test).await;
    until_no_resync(&test.database).await;
    files.settled(&test).await;
    for killed in [false, true] {
        let before = files.time();
        let broken = breaks(&files);
        workload.backlog(&test.database, 500).await;
        complains(&processor, reason).await;
        if killed {
            processor.sigkill();
            end_lease(&test.database).await;
        }
        mends(broken);
        assert_eq!(files.time(), before, "no checkpoint was saved");
        if killed {
            processor = files.started(&test).await;
        }
        workload.backlog(&test.database, 500).await;
        files.settled(&test).await;
    }
    assert_nothing_lost_up_to_here(test, processor).await;
}

async fn complains(processor: &Processor, reason: &str) {
    let (_, reasons) = eventually(PATIENCE, "the service complains", async || {
        processor.try_get("/readyz").await.filter(|(status, _)| *status == 503)
    })
    .await;
    assert!(reasons.contains(reason) && reasons.contains("check that tokens.directory exists"), "{reasons}");
}
