//! Decodes resume tokens and checkpoints, as an accident, an operator or another version may leave them.

#![no_main]

use bson::Document;
use libfuzzer_sys::fuzz_target;
use resume_tokens::{Checkpoint, ResumeToken};

fuzz_target!(|bytes: &[u8]| {
    let as_document = Document::from_reader(bytes).ok().and_then(|document| ResumeToken::from_document(&document).ok());
    let text = String::from_utf8_lossy(bytes);
    for token in as_document.into_iter().chain(ResumeToken::parse(text.clone())) {
        let _ = token.kind();
        // What the server gave is what it gets back.
        assert_eq!(ResumeToken::from_document(&token.to_document()), Ok(token));
    }
    if let Ok(checkpoint) = Checkpoint::from_json(&text) {
        assert_eq!(Checkpoint::from_json(&checkpoint.to_json().unwrap()).unwrap(), checkpoint);
    }
});
