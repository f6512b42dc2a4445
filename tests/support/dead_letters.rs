//! The dead letters of a database.

use std::collections::BTreeMap;

use bson::{Document, doc};
use futures::TryStreamExt as _;

use super::database::TestDatabase;
use super::fields::text;

/// All dead letters, by their addresses.
pub(crate) async fn dead_letters(test: &TestDatabase) -> BTreeMap<String, Document> {
    let dead_letters = test.collection("stream_processor_dead_letters").find(doc! {}).await.unwrap();
    let dead_letters: Vec<Document> = dead_letters.try_collect().await.unwrap();
    dead_letters.into_iter().map(|dead_letter| (text(&dead_letter, "_id").to_owned(), dead_letter)).collect()
}

/// The reason of each dead letter, by its address.
pub(crate) async fn reasons(test: &TestDatabase) -> BTreeMap<String, String> {
    let dead_letters = dead_letters(test).await.into_iter();
    dead_letters.map(|(address, dead_letter)| (address, text(&dead_letter, "reason").to_owned())).collect()
}
