//! The history in a file: what a crash or a hand leaves in it does not cost the other entries.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use resume_tokens::{Checkpoint, StoreError};

use crate::support::{TestFolder, checkpoint};

const FILE: &str = "test.history.jsonl";
const HOUR: Duration = Duration::from_secs(3600);

async fn remember(test: &TestFolder, seconds: &[u32]) {
    for second in seconds {
        test.store.remember(&checkpoint(*second, 1), HOUR).await.unwrap();
    }
}

async fn ids(test: &TestFolder) -> Vec<String> {
    test.store.history(100).await.unwrap().into_iter().map(|entry| entry.id).collect()
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The entry as a line of the file, made by the store itself.
async fn line(second: u32) -> String {
    let test = TestFolder::create();
    remember(&test, &[second]).await;
    fs::read_to_string(test.path(FILE)).unwrap()
}

#[tokio::test]
async fn every_entry_is_one_line_of_json_that_names_its_id() {
    let test = TestFolder::create();
    remember(&test, &[1000, 1060]).await;
    let text = fs::read_to_string(test.path(FILE)).unwrap();
    let ids: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["1000-1", "1060-1"]);
}

#[tokio::test]
async fn a_torn_last_line_is_left_out_and_does_not_spoil_the_next_one() {
    let third = line(1120).await;
    for length in [1, third.len() / 2, third.len() - 2] {
        let test = TestFolder::create();
        remember(&test, &[1000, 1060]).await;
        append(&test.path(FILE), &third[..length]);
        assert_eq!(ids(&test).await, ["1060-1", "1000-1"]);
        remember(&test, &[1180]).await;
        assert_eq!(ids(&test).await, ["1180-1", "1060-1", "1000-1"]);
        assert_eq!(fs::read_to_string(test.path(FILE)).unwrap().lines().count(), 3);
    }
}

#[tokio::test]
async fn a_file_that_is_one_torn_line_starts_anew() {
    let test = TestFolder::create();
    fs::write(test.path(FILE), "{\"id\":\"1000-").unwrap();
    assert_eq!(ids(&test).await, [""; 0]);
    remember(&test, &[1060]).await;
    assert_eq!(ids(&test).await, ["1060-1"]);
}

#[tokio::test]
async fn a_last_line_that_lacks_only_its_line_feed_is_kept() {
    let test = TestFolder::create();
    remember(&test, &[1000]).await;
    append(&test.path(FILE), line(1060).await.trim_end());
    remember(&test, &[1120]).await;
    assert_eq!(ids(&test).await, ["1120-1", "1060-1", "1000-1"]);
}

#[tokio::test]
async fn a_garbled_entry_does_not_hide_the_rest_and_is_reported_when_it_is_asked_for() {
    let test = TestFolder::create();
    remember(&test, &[1000, 1060, 1120]).await;
    let text = fs::read_to_string(test.path(FILE)).unwrap().replace("82000004240000", "82000004240001");
    fs::write(test.path(FILE), text).unwrap();
    assert_eq!(ids(&test).await, ["1120-1", "1000-1"]);
    let error = test.store.find("1060-1").await.unwrap_err();
    assert!(matches!(error, StoreError::Garbled { .. }), "{error:?}");
    assert!(error.to_string().contains("line 2 of"), "{error}");
    assert!(test.store.find("1120-1").await.unwrap().is_some());
}

#[tokio::test]
async fn the_file_is_rewritten_only_when_a_sixteenth_is_too_old() {
    let test = TestFolder::create();
    remember(&test, &[1000, 1100, 1200, 4700]).await;
    assert_eq!(ids(&test).await.len(), 4, "the first is 100 s too old, of 225 that are let pass");
    remember(&test, &[4826]).await;
    assert_eq!(ids(&test).await, ["4826-1", "4700-1"], "all that is older than an hour goes at once");
}

#[tokio::test]
async fn a_kill_while_the_history_is_rewritten_loses_nothing() {
    let test = TestFolder::create();
    remember(&test, &[1000, 1060]).await;
    fs::write(test.path("test.history.jsonl.aside"), "half of a li").unwrap();
    assert_eq!(ids(&test).await, ["1060-1", "1000-1"]);
    remember(&test, &[9000]).await;
    assert_eq!(ids(&test).await, ["9000-1"]);
    assert!(!test.path("test.history.jsonl.aside").exists());
}

#[tokio::test]
async fn a_history_that_cannot_be_rewritten_keeps_its_entries_and_says_so() {
    let test = TestFolder::create();
    remember(&test, &[1000]).await;
    fs::create_dir(test.path("test.history.jsonl.aside")).unwrap();
    let error = test.store.remember(&checkpoint(9000, 1), HOUR).await.unwrap_err();
    assert!(matches!(&error, StoreError::Io { path, .. } if path.ends_with("test.history.jsonl.aside")), "{error:?}");
    assert_eq!(ids(&test).await, ["9000-1", "1000-1"]);
}

#[tokio::test]
async fn instances_that_remember_at_the_same_moment_tear_no_line() {
    let test = TestFolder::create();
    let checkpoints: Vec<Checkpoint> = (1000..1040).map(|second| checkpoint(second, 1)).collect();
    let saves = checkpoints.iter().map(|checkpoint| test.store.remember(checkpoint, HOUR));
    for outcome in futures::future::join_all(saves).await {
        outcome.unwrap();
    }
    assert_eq!(ids(&test).await.len(), 40);
}
