//! The name of a database that is not the platform's: every command refuses it and names those that are.

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_recruiters_is_refused_and_those_with_recruiters_are_named() {
    let right = TestDatabase::create("wrong_database_right").await;
    let wrong = TestDatabase::without_collections(&right.uri, "wrong_database").await;
    for arguments in [
        &["run"][..],
        &["verify"],
        &["status"],
        &["backfill"],
        &["setup"],
        &["phase", "show"],
        &["phase", "set", "dual-write", "--reason", "x"],
        &["dead-letters", "list"],
        &["tokens", "show"],
        &["jobs", "list"],
    ] {
        let ended = Processor::command(arguments, &wrong, &[]).await;
        assert_eq!(ended.code, 3, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        let refusal = format!("the database `{}` has no collection `recruiters`", wrong.name());
        assert!(ended.stderr.contains(&refusal) && ended.stderr.contains("--allow-empty"), "{}", ended.stderr);
        assert!(ended.stderr.contains(right.name()), "the right one is named: {}", ended.stderr);
    }
    // The service tells it to those who read its log, as every other line.
    for (setting, error) in
        [(vec![], "has no collection `recruiters`"), (vec![("STREAM_PROCESSOR__LOG__LEVEL", "inof")], "log.level")]
    {
        let refused = Processor::command(&["run"], &wrong, &setting).await.stderr;
        let line: serde_json::Value = serde_json::from_str(refused.lines().last().unwrap()).expect("a line of JSON");
        assert_eq!(
            (&line["level"], &line["message"]),
            (&"ERROR".into(), &"the service cannot run".into()),
            "{refused}"
        );
        assert!(line["error"].as_str().unwrap().contains(error), "{refused}");
    }
    let doctor = Processor::command(&["doctor"], &wrong, &[]).await;
    assert_eq!(doctor.code, 3, "{}", doctor.stdout);
    assert!(doctor.stdout.contains("has no collection `recruiters`"), "{}", doctor.stdout);
    let made = wrong.database.list_collection_names().await.unwrap();
    assert!(made.is_empty(), "nothing is created there: {made:?}");

    let installed = Processor::command(&["setup", "--allow-empty"], &wrong, &[]).await;
    assert_eq!(installed.code, 0, "{}", installed.stderr);
}
