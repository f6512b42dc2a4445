//! What both stores promise, told once and tried on both.

use std::time::Duration;

use futures::future::join_all;
use resume_tokens::{Checkpoint, Store, StoreError};

use crate::support::{TestDatabase, TestFolder, checkpoint};

const DAY: Duration = Duration::from_secs(86_400);

/// Runs the body on a store of each kind.
macro_rules! on_every_store {
    (|$store:ident| $body:block) => {
        let (database, folder) = (TestDatabase::create().await, TestFolder::create());
        for $store in [&database.store(), &folder.store] $body
    };
}

async fn history_ids(store: &Store, limit: usize) -> Vec<String> {
    store.history(limit).await.unwrap().into_iter().map(|entry| entry.id).collect()
}

#[tokio::test]
async fn a_new_store_is_empty() {
    on_every_store!(|store| {
        assert_eq!(store.load().await.unwrap(), None);
        assert_eq!(store.history(10).await.unwrap(), []);
        assert_eq!(store.find("1-1").await.unwrap(), None);
        store.clear().await.unwrap();
    });
}

#[tokio::test]
async fn the_last_saved_checkpoint_is_loaded() {
    on_every_store!(|store| {
        store.save(&checkpoint(100, 1)).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Some(checkpoint(100, 1)));
        let idle = Checkpoint { wall_time: None, ..checkpoint(200, 1) };
        store.save(&idle).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Some(idle));
    });
}

#[tokio::test]
async fn a_newer_term_refuses_an_older_one_for_ever() {
    on_every_store!(|store| {
        store.save(&checkpoint(100, 1)).await.unwrap();
        store.save(&checkpoint(90, 7)).await.unwrap();
        for _ in 0..2 {
            let refused = store.save(&checkpoint(200, 6)).await;
            assert!(matches!(refused, Err(StoreError::NewerTerm { found: 7, ours: 6 })), "{refused:?}");
        }
        assert_eq!(store.load().await.unwrap(), Some(checkpoint(90, 7)));
        store.save(&checkpoint(300, 7)).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Some(checkpoint(300, 7)));
    });
}

#[tokio::test]
async fn of_instances_that_save_at_the_same_moment_the_newest_term_stays() {
    on_every_store!(|store| {
        for round in 1..=5 {
            let terms = round * 10..round * 10 + 8;
            let checkpoints: Vec<Checkpoint> = terms.rev().map(|term| checkpoint(100, term)).collect();
            for outcome in join_all(checkpoints.iter().map(|checkpoint| store.save(checkpoint))).await {
                assert!(matches!(outcome, Ok(()) | Err(StoreError::NewerTerm { .. })), "{outcome:?}");
            }
            assert_eq!(store.load().await.unwrap(), Some(checkpoint(100, round * 10 + 7)));
        }
    });
}

#[tokio::test]
async fn first_saves_of_one_term_at_the_same_moment_all_succeed() {
    on_every_store!(|store| {
        for _ in 0..5 {
            store.clear().await.unwrap();
            let checkpoint = checkpoint(100, 3);
            for outcome in join_all((0..8).map(|_| store.save(&checkpoint))).await {
                outcome.unwrap();
            }
        }
    });
}

#[tokio::test]
async fn the_history_is_listed_newest_first_and_its_entries_are_found() {
    on_every_store!(|store| {
        for second in [1000, 1060, 1120] {
            store.remember(&checkpoint(second, 1), DAY).await.unwrap();
        }
        assert_eq!(history_ids(store, 10).await, ["1120-1", "1060-1", "1000-1"]);
        assert_eq!(history_ids(store, 2).await, ["1120-1", "1060-1"]);
        assert_eq!(history_ids(store, 0).await, [""; 0]);
        let found = store.find("1060-1").await.unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.checkpoint), ("1060-1", checkpoint(1060, 1)));
        assert_eq!(store.find("1061-1").await.unwrap(), None);
        assert_eq!(store.load().await.unwrap(), None, "the history is not the checkpoint");
    });
}

#[tokio::test]
async fn a_position_that_is_remembered_again_replaces_its_entry() {
    on_every_store!(|store| {
        store.remember(&checkpoint(1000, 1), DAY).await.unwrap();
        store.remember(&checkpoint(1060, 1), DAY).await.unwrap();
        let again = Checkpoint { updated_at: checkpoint(1090, 1).updated_at, ..checkpoint(1000, 2) };
        store.remember(&again, DAY).await.unwrap();
        assert_eq!(history_ids(store, 10).await, ["1000-1", "1060-1"]);
        assert_eq!(store.find("1000-1").await.unwrap().unwrap().checkpoint, again);
    });
}

#[tokio::test]
async fn what_is_older_than_asked_for_leaves_the_history() {
    on_every_store!(|store| {
        let hour = Duration::from_secs(3600);
        for second in [1_000, 2_000, 4_000, 4_500] {
            store.remember(&checkpoint(second, 1), hour).await.unwrap();
        }
        assert_eq!(history_ids(store, 10).await, ["4500-1", "4000-1", "2000-1", "1000-1"]);
        store.remember(&checkpoint(6_000, 1), hour).await.unwrap();
        assert_eq!(history_ids(store, 10).await, ["6000-1", "4500-1", "4000-1"]);
        store.remember(&checkpoint(6_060, 1), Duration::MAX).await.unwrap();
        assert_eq!(history_ids(store, 10).await, ["6060-1", "6000-1", "4500-1", "4000-1"]);
        store.remember(&checkpoint(6_120, 1), Duration::ZERO).await.unwrap();
        assert_eq!(history_ids(store, 10).await, ["6120-1"]);
    });
}

/// The age of an entry is a distance in the stream, so a wrong clock of the machine neither empties the history nor keeps
/// it for ever.
#[tokio::test]
async fn a_wrong_clock_deletes_no_entry_of_the_history_and_keeps_none() {
    on_every_store!(|store| {
        let year = 365 * 24 * 3600;
        store.remember(&checkpoint(1000, 1), DAY).await.unwrap();
        let ahead = Checkpoint { updated_at: checkpoint(1060 + year, 1).updated_at, ..checkpoint(1060, 1) };
        store.remember(&ahead, DAY).await.unwrap();
        assert_eq!(history_ids(store, 10).await, ["1060-1", "1000-1"]);
        store.remember(&checkpoint(1060 + year, 1), DAY).await.unwrap();
        assert_eq!(history_ids(store, 10).await.len(), 1, "both are a year old");
    });
}

#[tokio::test]
async fn a_cleared_store_keeps_its_history_and_takes_any_term() {
    on_every_store!(|store| {
        store.save(&checkpoint(1000, 9)).await.unwrap();
        store.remember(&checkpoint(1000, 9), DAY).await.unwrap();
        store.clear().await.unwrap();
        assert_eq!(store.load().await.unwrap(), None);
        assert_eq!(history_ids(store, 10).await, ["1000-1"]);
        store.save(&checkpoint(2000, 1)).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Some(checkpoint(2000, 1)));
    });
}
