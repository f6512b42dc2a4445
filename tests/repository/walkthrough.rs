//! docs/operations.md does what it says: its commands are run in their order, its `js` blocks too, on a real MongoDB.

use std::path::Path;
use std::process::Command;

use bson::Document;
use xtask::guarded::TemporaryFolder;

use crate::support::database::TestDatabase;
use crate::support::end::assert_equal_to_a_fresh_backfill;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::started_with;
use crate::support::state::{settled, until_no_resync};

const DOCUMENT: &str = include_str!("../../docs/operations.md");
/// A killed instance is followed soon.
const SHORT: [(&str, &str); 1] = [("STREAM_PROCESSOR__LEASE__DURATION", "3s")];

#[tokio::test(flavor = "multi_thread")]
async fn the_walkthrough_of_the_operations_page_works_as_it_is_written() {
    let test = TestDatabase::with_live_schema("walkthrough").await;
    let all: Vec<Document> = (0..5).map(|_| recruiter([job("Boulanger"), job("Pâtissier")])).collect();
    test.collection("recruiters").insert_many(all).await.unwrap();
    let folder = TemporaryFolder::create("stream-processor-walkthrough-").unwrap();
    let mut service: Option<Processor> = None;
    let mut ran = 0;
    for (language, block) in blocks(DOCUMENT) {
        if language == "js" {
            let reply = test.database.run_command(command_of(block)).await.unwrap();
            let written = reply.get_i32("n").unwrap();
            assert!(written > 0 && !reply.contains_key("writeErrors"), "{block}\n{reply}");
            settled(&test.database).await;
            continue;
        }
        for line in block.lines() {
            match line {
                "stream-processor run &" => {
                    service = Some(started_with(&test, &SHORT).await);
                    until_no_resync(&test.database).await;
                }
                "kill -9 $!" => service.as_mut().unwrap().sigkill(),
                "kill $!" => {
                    service.as_mut().unwrap().sigterm();
                    assert_eq!(service.as_mut().unwrap().until_ended().await.code, 0);
                }
                line => run(line, &test, folder.path()),
            }
            ran += 1;
        }
    }
    assert!(ran > 20, "the page was read");
    assert_equal_to_a_fresh_backfill(&test).await;
    assert!(folder.path().join("man/stream-processor.1").exists());
}

/// Runs one line in a shell; it must end as the line says.
fn run(line: &str, test: &TestDatabase, folder: &Path) {
    let (line, code) = line.split_once("# ends with ").map_or((line, 0), |(line, code)| (line, code.parse().unwrap()));
    let program = Path::new(env!("CARGO_BIN_EXE_stream-processor")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STREAM_PROCESSOR_") || name == "SMTP_URL") {
        shell.env_remove(name);
    }
    let environment = [("PATH", path.as_str()), ("MONGODB_URI", &test.uri), ("MONGODB_DATABASE", test.name())];
    let output = shell.args(["-c", line]).current_dir(folder).envs(environment).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    assert_eq!(output.status.code(), Some(code), "{line}\n{said}");
}

/// The blocks of code with their languages.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let parts = text.split("```").skip(1).step_by(2);
    parts.map(|block| block.split_once('\n').unwrap()).filter(|(language, _)| !language.is_empty()).collect()
}

/// What `db.runCommand(…)` would run: Extended JSON, in its order.
fn command_of(block: &str) -> Document {
    let json = block.trim().strip_prefix("db.runCommand(EJSON.deserialize(").unwrap().strip_suffix("))").unwrap();
    serde_json::from_str(json).unwrap()
}
