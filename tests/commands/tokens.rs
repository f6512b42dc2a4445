//! The commands `tokens …` (spec 06): positions are decoded, leave the service and come back, and nothing is passed over
//! unseen.

use bson::{Bson, DateTime, Document, doc};
use resume_tokens::Checkpoint;
use serde_json::Value;

use crate::support::change_streams::events_after;
use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::offers;
use crate::support::processor::{Ended, Processor};
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{change_checkpoint, checkpoint, gaps, settled, state, until_no_resync};

#[tokio::test(flavor = "multi_thread")]
async fn a_position_is_decoded_with_its_age_and_whether_the_oplog_holds_it() {
    let test = TestDatabase::create("tokens_show").await;
    let none = tokens(&test, &["show"]).await;
    assert!(none.code == 1 && none.stderr.contains("no instance has saved one"), "{}", none.stderr);
    let processor = started_with(&test, &[("STREAM_PROCESSOR__TOKENS__HISTORY_INTERVAL", "1s")]).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;

    let stored = Checkpoint::from_document(&checkpoint(&test.database).await).unwrap();
    let shown = json(&tokens(&test, &["show", "--json"]).await);
    assert_eq!(shown["id"], stored.history_id());
    assert_eq!(shown["cluster_time"]["t"], stored.cluster_time.time);
    assert!(["event", "high_water_mark"].contains(&shown["kind"].as_str().unwrap()), "{shown}");
    assert_eq!((&shown["in_oplog"], &shown["events"]), (&true.into(), &stored.events.into()));
    assert!(shown["headroom_seconds"].is_null() && shown["age_seconds"].is_u64(), "its oplog is young: {shown}");
    let listed = json(&tokens(&test, &["list", "--json", "--limit", "1"]).await);
    assert!(listed["count"].as_u64().unwrap() >= 1 && listed["history"].as_array().unwrap().len() == 1, "{listed}");

    let text = tokens(&test, &["show"]).await.stdout;
    for word in ["time ", "kind ", "in the oplog", "headroom      the oplog is young", "old worker    recruiters: "] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let old = tokens(&test, &["show", "--fail-if-lost", "2001-01-01T00:00:00Z"]).await;
    assert!(old.code == 1 && old.stdout.contains("no longer in the oplog"), "{}", old.stdout);
}

/// Over events that nobody has read only by force; then they are a gap, and everything is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_moves_forward_over_unread_events_by_force_only_and_loses_nothing() {
    let test = TestDatabase::create("tokens_forward").await;
    let processor = started(&test).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    stopped(processor).await;
    let before = checkpoint(&test.database).await;
    test.collection("recruiters").insert_one(recruiter([job("Pâtissier")])).await.unwrap();
    let later = exported_after_the_events(&test, &before).await;

    let refused = tokens(&test, &["import", &later.file()]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(
        refused.stderr.contains("not read yet: 1 event between") && refused.stderr.contains("--force --reason"),
        "{}",
        refused.stderr
    );
    let refused = tokens(&test, &["reset"]).await;
    assert_eq!(refused.code, 1);
    for words in ["not read yet: 1 event;", " ago, would be forgotten", "every recruiter again", "tokens export FILE"] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    let no_reason = tokens(&test, &["import", &later.file(), "--force"]).await;
    assert_eq!(no_reason.code, 2, "{}", no_reason.stderr);
    assert_eq!(checkpoint(&test.database).await, before, "nothing has moved");

    let forced = tokens(&test, &["import", &later.file(), "--force", "--reason", "the disk was full"]).await;
    assert_eq!(forced.code, 0, "{}", forced.stderr);
    assert!(forced.stdout.contains("runs a resync"), "{}", forced.stdout);
    assert_eq!(gaps(&test.database).await.len(), 1, "what is passed over is written down");
    let shown = json(&tokens(&test, &["show", "--json"]).await);
    assert_eq!(shown["changes"][0]["reason"], "the disk was full");
    assert!(shown["changes"][0]["overridden"][0].as_str().unwrap().contains("not read yet"), "{shown:#}");

    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    assert_eq!(offers::read(&test.database).await.len(), 2, "the offer of the event that nobody read is there");
    assert_nothing_lost(test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_moves_back_by_force_only_and_never_beside_an_instance() {
    let test = TestDatabase::create("tokens_back").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("before.json");
    let file = file.to_str().unwrap();
    assert_eq!(tokens(&test, &["export", file]).await.code, 0, "beside an instance too");
    let again = tokens(&test, &["export", file]).await;
    assert!(again.code == 2 && again.stderr.contains("choose another file"), "{}", again.stderr);
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;

    for command in [&["import", file][..], &["import", "--old-worker"], &["reset"], &["export", "--old-worker"]] {
        let beside = tokens(&test, command).await;
        assert!(beside.code == 1 && beside.stderr.contains("stop all instances first"), "{}", beside.stderr);
    }
    stopped(processor).await;
    let refused = tokens(&test, &["import", file]).await;
    assert!(refused.code == 1 && refused.stderr.contains("is before the position"), "{}", refused.stderr);
    let forced = tokens(&test, &["import", file, "--force", "--reason", "tried"]).await;
    assert_eq!(forced.code, 0, "{}", forced.stderr);
    let exported = Checkpoint::from_json(&std::fs::read_to_string(file).unwrap()).unwrap();
    let stored = Checkpoint::from_document(&checkpoint(&test.database).await).unwrap();
    assert_eq!(stored.token, exported.token);
    assert!(stored.term > exported.term && gaps(&test.database).await.is_empty());

    let mut elsewhere: Value = serde_json::from_str(&exported.to_json().unwrap()).unwrap();
    elsewhere["history"]["set"] = "another".into();
    std::fs::write(file, elsewhere.to_string()).unwrap();
    let refused = tokens(&test, &["import", file]).await;
    assert!(refused.code == 1 && refused.stderr.contains("of another replica set"), "{}", refused.stderr);
    let forced = tokens(&test, &["import", file, "--force", "--reason", "it was renamed"]).await;
    assert!(forced.code == 0 && forced.stdout.contains("runs a resync"), "{}", forced.stderr);
    assert_eq!(gaps(&test.database).await.len(), 1);

    std::fs::write(file, "{\"_data\": \"82zz\"}").unwrap();
    let garbled = tokens(&test, &["import", file]).await;
    assert!(garbled.code == 2 && garbled.stderr.contains("expected a file from `tokens export`"), "{}", garbled.stderr);
    let processor = started(&test).await;
    assert_nothing_lost(test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_cannot_be_read_is_replaced_or_reset_without_force() {
    let test = TestDatabase::create("tokens_garbled").await;
    let processor = started(&test).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;
    change_checkpoint(&test.database, doc! { "token": { "_data": "82" } }).await;
    let shown = tokens(&test, &["show"]).await;
    assert!(shown.code == 1 && shown.stderr.contains("`tokens reset`"), "{}", shown.stderr);
    let reset = tokens(&test, &["reset"]).await;
    assert_eq!(reset.code, 0, "{}", reset.stderr);
    assert_eq!(state(&test.database, "checkpoint").await, None);
    let processor = started(&test).await;
    assert_nothing_lost(test, processor).await;
}

/// There and back again: the old worker's own streams go on where the service stopped, also that of a collection in which
/// nothing has happened for long; then the service takes over where the old worker stopped.
#[tokio::test(flavor = "multi_thread")]
async fn the_old_worker_takes_over_from_the_service_and_the_service_from_the_old_worker() {
    let test = TestDatabase::create("tokens_old_worker").await;
    let processor = started(&test).await;
    let applied = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&applied).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;
    test.collection("resumetokens").delete_many(doc! {}).await.unwrap();
    let handed = tokens(&test, &["export", "--old-worker"]).await;
    assert_eq!(handed.code, 0, "{}", handed.stderr);

    for name in ["recruiters", "anonymized_recruiters"] {
        let left = test.collection("resumetokens").find_one(doc! { "collection": name }).await.unwrap().unwrap();
        assert!(left.get_datetime("updatedAt").is_ok());
        let next = recruiter([job("Pâtissier")]);
        test.collection(name).insert_one(&next).await.unwrap();
        let seen = events_after(&test.collection(name), left.get_document("resumeTokenData").unwrap(), id(&next)).await;
        let seen_ids: Vec<_> = seen.iter().map(|event| event.id).filter(|seen| *seen != id(&applied)).collect();
        assert_eq!(seen_ids, [id(&next)], "{name}: the later events, at most with the last one that was applied");
        // As the old worker does after it.
        let token = doc! { "resumeTokenData": &seen.last().unwrap().token, "updatedAt": DateTime::now() };
        let tokens = test.collection("resumetokens");
        tokens.update_one(doc! { "collection": name }, doc! { "$set": token }).await.unwrap();
    }
    let taken = tokens(&test, &["import", "--old-worker"]).await;
    assert_eq!(taken.code, 0, "{}", taken.stderr);
    let oldest = test.collection("resumetokens").find_one(doc! { "collection": "recruiters" }).await.unwrap().unwrap();
    let stored = checkpoint(&test.database).await;
    assert_eq!(stored.get("token"), oldest.get("resumeTokenData"), "the older of the two");
    assert!(stored.get("events").and_then(Bson::as_i64).unwrap() > 0, "the count goes on");
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    assert_eq!(offers::read(&test.database).await.len(), 2, "what the old worker may have missed is looked at");
    stopped(processor).await;
}

/// A position in a file, after everything that has happened.
struct Exported {
    folder: tempfile::TempDir,
}

impl Exported {
    fn file(&self) -> String {
        self.folder.path().join("later.json").to_str().unwrap().to_owned()
    }
}

async fn exported_after_the_events(test: &TestDatabase, before: &Document) -> Exported {
    let mut later = Checkpoint::from_document(before).unwrap();
    let now = crate::support::waiting::cluster_time_now(&test.database).await;
    let data = format!("82{:08X}{:08X}2B0229296E04", now.time, now.increment);
    later.token = resume_tokens::ResumeToken::parse(data).unwrap();
    later.cluster_time = now;
    let exported = Exported { folder: tempfile::tempdir().unwrap() };
    std::fs::write(exported.file(), later.to_json().unwrap()).unwrap();
    exported
}

async fn tokens(test: &TestDatabase, arguments: &[&str]) -> Ended {
    Processor::command(&[&["tokens"], arguments].concat(), test, &[]).await
}

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
