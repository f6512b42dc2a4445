//! Decodes recruiters of any shape, projects their jobs, and compares the offers with what may stand.

#![no_main]

use std::sync::Arc;

use bson::RawDocument;
use libfuzzer_sys::fuzz_target;
use stream_processor::inside::Recruiter;
use stream_processor::inside::{Cfa, References, RomeSheet, User};
use stream_processor::inside::compare;
use stream_processor::inside::{ProjectionSettings, project};

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = RawDocument::from_bytes(bytes) else { return };
    let Ok(recruiter) = Recruiter::read(document) else { return };
    let settings = ProjectionSettings {
        partner_label: "label".to_owned(),
        public_url: "https://example.com".to_owned(),
        offer_type: "offres".to_owned(),
        anonymized_email: "anonymized@example.com".to_owned(),
        cancels_deactivated: true,
    };
    // The same bytes again, as whatever the projection looks up.
    let references = References {
        rome: RomeSheet::read(document).ok().map(Arc::new),
        cfa: Cfa::read(document).ok().map(Arc::new),
        user: User::read(document).ok().map(Arc::new),
        ..References::default()
    };
    for job in &recruiter.jobs {
        let (Some(id), Ok(fields)) = (job.id, job.fields()) else { continue };
        let projected = || project(&recruiter.fields, id, &fields, &references, &settings);
        let Ok(offer) = projected() else { continue };
        assert_eq!(format!("{offer:?}"), format!("{:?}", projected().ok().unwrap()));
        let _ = compare(&offer, None);
        let _ = compare(&offer, Some(document));
    }
});
