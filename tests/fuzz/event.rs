//! Decodes change events, as a server might send them that nobody has met yet, and plans what they ask for.

#![no_main]

use bson::RawDocument;
use libfuzzer_sys::fuzz_target;
use stream_processor::inside::plan;
use stream_processor::inside::Event;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = RawDocument::from_bytes(bytes) else { return };
    let Ok(event) = Event::read(document) else { return };
    assert!(event.weight() > 0);
    let once = plan(std::slice::from_ref(&event));
    // Told twice, it asks for the same.
    assert_eq!(format!("{once:?}"), format!("{:?}", plan(&[event.clone(), event])));
});
