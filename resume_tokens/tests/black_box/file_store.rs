//! The checkpoint in a file: whole or not at all, whatever the disk does.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use resume_tokens::{FileStore, ResumeToken, Store, StoreError};

use crate::support::{TestFolder, checkpoint};

const FILE: &str = "test.json";
const ASIDE: &str = "test.json.aside";

#[tokio::test]
async fn the_folder_is_made_when_it_is_needed_and_holds_one_readable_file() {
    let test = TestFolder::create();
    let store = Store::Files(FileStore::new(test.path("a/b"), "test"));
    assert_eq!(store.load().await.unwrap(), None);
    assert!(!test.path("a").exists(), "reading creates nothing");
    store.save(&checkpoint(1000, 3)).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&fs::read(test.path("a/b/test.json")).unwrap()).unwrap();
    assert_eq!(json["cluster_time"], serde_json::json!({ "t": 1000, "i": 1 }));
    assert_eq!(json["updated_at"], "1970-01-01T00:16:40Z");
    assert!(!test.path("a/b/test.json.aside").exists());
}

#[tokio::test]
async fn processors_that_share_a_folder_do_not_see_each_other() {
    let test = TestFolder::create();
    let other = Store::Files(FileStore::new(test.folder.path().to_owned(), "other"));
    test.store.save(&checkpoint(1000, 1)).await.unwrap();
    other.save(&checkpoint(2000, 5)).await.unwrap();
    assert_eq!(test.store.load().await.unwrap(), Some(checkpoint(1000, 1)));
    assert_eq!(other.load().await.unwrap(), Some(checkpoint(2000, 5)));
}

#[tokio::test]
async fn a_kill_between_writing_aside_and_renaming_loses_nothing() {
    let test = TestFolder::create();
    let unfinished = checkpoint(1060, 1).to_json().unwrap();
    for length in [0, 1, unfinished.len() / 2, unfinished.len()] {
        test.store.save(&checkpoint(1000, 1)).await.unwrap();
        fs::write(test.path(ASIDE), &unfinished[..length]).unwrap();
        assert_eq!(test.store.load().await.unwrap(), Some(checkpoint(1000, 1)));
        test.store.save(&checkpoint(1120, 1)).await.unwrap();
        assert_eq!(test.store.load().await.unwrap(), Some(checkpoint(1120, 1)));
    }
    assert!(!test.path(ASIDE).exists());
}

#[tokio::test]
async fn a_longer_remainder_of_a_killed_save_does_not_show_in_the_next_one() {
    let test = TestFolder::create();
    fs::write(test.path(ASIDE), "x".repeat(10_000)).unwrap();
    test.store.save(&checkpoint(1000, 1)).await.unwrap();
    assert_eq!(fs::read_to_string(test.path(FILE)).unwrap(), checkpoint(1000, 1).to_json().unwrap());
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named_and_the_old_checkpoint_stays() {
    let test = TestFolder::create();
    test.store.save(&checkpoint(1000, 1)).await.unwrap();
    // Permissions do not hold for every user who runs tests; a folder in the way does.
    fs::create_dir(test.path(ASIDE)).unwrap();
    let error = test.store.save(&checkpoint(1060, 1)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Io { path, .. } if *path == test.path(ASIDE)), "{error:?}");
    assert!(error.to_string().starts_with(&format!("cannot create `{}`: ", test.path(ASIDE).display())), "{error}");
    assert_eq!(test.store.load().await.unwrap(), Some(checkpoint(1000, 1)));
}

#[tokio::test]
async fn a_full_disk_is_reported_and_the_old_checkpoint_stays() {
    let test = TestFolder::create();
    test.store.save(&checkpoint(1000, 1)).await.unwrap();
    symlink("/dev/full", test.path(ASIDE)).unwrap();
    let error = test.store.save(&checkpoint(1060, 1)).await.unwrap_err();
    let StoreError::Io { action, path, source } = &error else { panic!("{error:?}") };
    assert_eq!((*action, path), ("write", &test.path(ASIDE)));
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(test.store.load().await.unwrap(), Some(checkpoint(1000, 1)));
}

#[tokio::test]
async fn a_folder_under_a_file_is_reported_by_every_method() {
    let test = TestFolder::create();
    fs::write(test.path("file"), "").unwrap();
    let store = Store::Files(FileStore::new(test.path("file/folder"), "test"));
    let day = std::time::Duration::from_secs(86_400);
    let failures = [
        store.load().await.unwrap_err(),
        store.save(&checkpoint(1000, 1)).await.unwrap_err(),
        store.remember(&checkpoint(1000, 1), day).await.unwrap_err(),
        store.history(1).await.unwrap_err(),
        store.find("1000-1").await.unwrap_err(),
        store.clear().await.unwrap_err(),
    ];
    for error in failures {
        assert!(matches!(&error, StoreError::Io { path, .. } if path.starts_with(test.path("file"))), "{error:?}");
    }
}

#[tokio::test]
async fn a_garbled_file_is_an_error_that_says_where_and_what_and_can_be_replaced() {
    let test = TestFolder::create();
    let whole = checkpoint(1000, 1).to_json().unwrap();
    let other_time = whole.replace("\"t\": 1000", "\"t\": 1001");
    for garbled in ["", "{", "\u{0}\u{0}\u{0}", &whole[..whole.len() / 2], &other_time] {
        fs::write(test.path(FILE), garbled).unwrap();
        let error = test.store.load().await.unwrap_err();
        assert!(matches!(error, StoreError::Garbled { .. }), "{error:?}");
        assert!(error.to_string().contains(&test.path(FILE).display().to_string()), "{error}");
        test.store.save(&checkpoint(1060, 1)).await.unwrap();
        assert_eq!(test.store.load().await.unwrap(), Some(checkpoint(1060, 1)));
    }
    fs::write(test.path(FILE), [0xFF, 0xFE]).unwrap();
    assert!(matches!(test.store.load().await, Err(StoreError::Garbled { .. })), "bytes that are no text");
}

#[tokio::test]
async fn a_garbled_file_of_a_newer_term_still_refuses_an_older_one() {
    let test = TestFolder::create();
    let garbled = checkpoint(1000, 8).to_json().unwrap().replace("_data", "data");
    fs::write(test.path(FILE), &garbled).unwrap();
    let refused = test.store.save(&checkpoint(1060, 7)).await;
    assert!(matches!(refused, Err(StoreError::NewerTerm { found: 8, ours: 7 })), "{refused:?}");
    assert_eq!(fs::read_to_string(test.path(FILE)).unwrap(), garbled);
}

#[tokio::test]
async fn a_process_that_holds_the_lock_for_ever_makes_a_save_fail_and_does_not_hang_it() {
    let test = TestFolder::create();
    test.store.save(&checkpoint(1000, 1)).await.unwrap();
    let suspended = File::open(test.path("test.lock")).unwrap();
    suspended.lock().unwrap();
    let error = test.store.save(&checkpoint(1060, 2)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Io { action: "lock", .. }), "{error:?}");
    assert_eq!(test.store.load().await.unwrap(), Some(checkpoint(1000, 1)), "reading needs no lock");
    drop(suspended);
    test.store.save(&checkpoint(1060, 2)).await.unwrap();
}

#[tokio::test]
async fn a_token_with_type_bits_comes_back_from_the_file_as_it_was() {
    let test = TestFolder::create();
    let bits = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0x82, 0xC0, 0x1E] };
    let token = bson::doc! { "_data": checkpoint(1000, 1).token.data(), "_typeBits": bits };
    let saved = resume_tokens::Checkpoint { token: ResumeToken::from_document(&token).unwrap(), ..checkpoint(1000, 1) };
    test.store.save(&saved).await.unwrap();
    assert_eq!(test.store.load().await.unwrap().unwrap().token.to_document(), token);
}

#[test]
fn the_path_of_the_checkpoint_is_known_without_touching_the_disk() {
    assert_eq!(FileStore::new(PathBuf::from("x"), "production").path(), PathBuf::from("x/production.json"));
}
