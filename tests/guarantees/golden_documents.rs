//! The golden documents, through the live stream and through a backfill: both give exactly the expected
//! offers, dead letters and anonymisations (spec 02; `golden/README.md`).

use crate::support::database::TestDatabase;
use crate::support::golden::{self, after_inserts, after_operations, operations};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::waiting::caught_up;

#[tokio::test(flavor = "multi_thread")]
async fn the_live_stream_gives_the_expected_offers_after_the_inserts_and_after_the_operations() {
    let test = TestDatabase::with_planned_schema("golden_stream").await;
    golden::load_references(&test.database).await;
    let mut processor = Processor::start_ready(&test, &[]).await;

    golden::load_recruiters(&test.database).await;
    caught_up(&test.database).await;
    offers::assert_as_expected(&test.database, &after_inserts()).await;
    golden::assert_dead_letters(&test.database, &after_inserts().dead_letters).await;

    for operation in operations() {
        operation.apply(&test.database).await;
    }
    caught_up(&test.database).await;
    offers::assert_as_expected(&test.database, &after_operations()).await;
    golden::assert_dead_letters(&test.database, &after_operations().dead_letters).await;

    processor.sigterm();
    assert_eq!(processor.until_ended().await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_the_final_state_gives_the_expected_offers() {
    let test = TestDatabase::with_planned_schema("golden_backfill").await;
    golden::load_references(&test.database).await;
    golden::load_recruiters(&test.database).await;
    for operation in operations() {
        operation.apply(&test.database).await;
    }
    let ended = Processor::command(&["backfill", "--json"], &test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    offers::assert_as_expected(&test.database, &after_operations()).await;
    golden::assert_dead_letters(&test.database, &after_operations().dead_letters).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_arrive_while_nobody_listens_are_applied_as_one_backlog() {
    let test = TestDatabase::with_planned_schema("golden_backlog").await;
    golden::load_references(&test.database).await;
    let mut processor = Processor::start_ready(&test, &[]).await;
    golden::load_recruiters(&test.database).await;
    caught_up(&test.database).await;
    processor.sigterm();
    assert_eq!(processor.until_ended().await.code, 0);

    for operation in operations() {
        operation.apply(&test.database).await;
    }
    let _processor = Processor::start_ready(&test, &[]).await;
    caught_up(&test.database).await;
    offers::assert_as_expected(&test.database, &after_operations()).await;
    golden::assert_dead_letters(&test.database, &after_operations().dead_letters).await;
}
