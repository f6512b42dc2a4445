//! SIGHUP: the service reads its configuration again, takes another level of the log, and names what needs a restart.

use std::fs;

use xtask::guarded::Signal;

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::state::settled;
use crate::support::waiting::{PATIENCE, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn another_level_takes_effect_and_other_keys_are_named() {
    let test = TestDatabase::create("reload").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    fs::write(&path, "[log]\nlevel = \"info\"\n").unwrap();
    let file = ("STREAM_PROCESSOR_CONFIG", path.to_str().unwrap());
    let mut processor = Processor::start_ready(&test, &[file]).await;
    let told = async |processor: &mut Processor, text: &str, word: &str| {
        fs::write(&path, text).unwrap();
        processor.signal(Signal::Hangup);
        eventually(PATIENCE, word, async || processor.stderr().contains(word).then_some(())).await;
    };
    told(&mut processor, "[log]\nlevel = \"info\"\n", "nothing has changed").await;
    assert!(!processor.stderr().contains("\"level\":\"DEBUG\""));
    told(&mut processor, "[log]\nlevel = \"debug\"\n", "the log has another level now").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;
    eventually(PATIENCE, "a batch is told", async || {
        processor.stderr().contains("\"message\":\"batch\"").then_some(())
    })
    .await;
    let other = "[log]\nlevel = \"debug\"\n[stream]\nbatch_max = 7\n";
    told(&mut processor, other, "\"keys\":\"stream.batch_max\"").await;
    told(&mut processor, "[stream]\nbatch_max = 0\n", "the old one stays in force").await;
    processor.sigterm();
    assert_eq!(processor.until_ended().await.code, 0);
}
