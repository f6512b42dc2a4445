//! Documents that are no valid BSON, which a driver neither writes nor reads: sent as bytes.

use bson::RawDocumentBuf;
use bson::raw::RawArrayBuf;
use bson::rawdoc;

use super::database::TestDatabase;

/// What stands in a document for bytes that are no UTF-8.
pub(crate) const DAMAGED: &str = "XXXX";

/// Inserts the document with such bytes in each place of [`DAMAGED`].
pub(crate) async fn insert(test: &TestDatabase, collection: &str, document: RawDocumentBuf) {
    let mut documents = RawArrayBuf::new();
    documents.push(document);
    run(test, rawdoc! { "insert": collection, "documents": documents }).await;
}

/// Runs a command that changes one document, with such bytes in each place of [`DAMAGED`].
pub(crate) async fn run(test: &TestDatabase, command: RawDocumentBuf) {
    let mut bytes = command.into_bytes();
    let places = bytes.windows(4).enumerate().filter(|(_, four)| *four == DAMAGED.as_bytes());
    for place in places.map(|(place, _)| place).collect::<Vec<_>>() {
        bytes[place..place + 4].copy_from_slice(&[0xc3, 0x28, 0xff, 0xfe]);
    }
    let reply = test.database.run_raw_command(RawDocumentBuf::from_bytes(bytes).unwrap()).await.unwrap();
    assert_eq!(reply.get_i32("n").ok(), Some(1), "{reply}");
}
