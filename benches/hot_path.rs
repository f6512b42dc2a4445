//! Benchmarks of the pure code on the hot path (`cargo bench`). `cargo xtask bench` measures the whole service.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the golden documents are what they are")]

use bson::raw::RawDocumentBuf;
use bson::{DateTime, Timestamp, oid::ObjectId, rawdoc};
use divan::{Bencher, black_box};
use stream_processor::inside::Answers;
use stream_processor::inside::Event;
use stream_processor::inside::Recruiter;
use stream_processor::inside::compare;
use stream_processor::inside::plan;
use stream_processor::inside::{ProjectionSettings, project};

fn main() {
    divan::main();
}

fn event(recruiter: ObjectId) -> RawDocumentBuf {
    let token = "82650F1A2B000000012B022C0100296E5A1004049AFC604C5B451B876F21AD79C3850646645F69640064651744298E04CA3AB7F1FBBD0004";
    rawdoc! {
        "_id": { "_data": token }, "operationType": "update", "clusterTime": Timestamp { time: 1_695_488_555, increment: 1 },
        "wallTime": DateTime::from_millis(1_695_488_555_000), "ns": { "db": "d", "coll": "recruiters" },
        "documentKey": { "_id": recruiter }, "updated": ["jobs.1.job_description", "jobs.1.job_update_date"],
    }
}

/// The first golden recruiter with three jobs or more that can all be projected without references.
fn recruiter() -> RawDocumentBuf {
    let recruiters = xtask::golden::recruiters().unwrap();
    let raw = recruiters.iter().map(|recruiter| RawDocumentBuf::try_from(recruiter).unwrap());
    raw.into_iter()
        .find(|raw| {
            let recruiter = Recruiter::read(raw).unwrap();
            let jobs = recruiter.jobs.iter();
            recruiter.jobs.len() >= 3 && jobs.map(|job| offer(&recruiter, job)).all(|offer| offer.is_some())
        })
        .expect("there is one")
}

fn offer(
    recruiter: &Recruiter<'_>,
    job: &stream_processor::inside::Job<'_>,
) -> Option<stream_processor::inside::Offer> {
    let fields = job.fields().ok()?;
    let references = Answers::default().of(&recruiter.fields, &fields);
    project(&recruiter.fields, job.id?, &fields, &references, &settings()).ok()
}

fn settings() -> ProjectionSettings {
    ProjectionSettings {
        partner_label: "RECRUTEURS_LBA".to_owned(),
        public_url: "https://example.com".to_owned(),
        offer_type: "offres_emploi_lba".to_owned(),
        anonymized_email: "anonymized@example.com".to_owned(),
        cancels_deactivated: false,
        schema: std::sync::Arc::default(),
    }
}

#[divan::bench]
fn decode_an_event(bencher: Bencher<'_, '_>) {
    let event = event(ObjectId::new());
    bencher.bench(|| Event::read(black_box(&event)).unwrap());
}

#[divan::bench]
fn plan_a_thousand_events_on_500_recruiters(bencher: Bencher<'_, '_>) {
    let recruiters: Vec<ObjectId> = (0..500).map(|_| ObjectId::new()).collect();
    let events: Vec<Event> =
        recruiters.iter().cycle().take(1_000).map(|recruiter| Event::read(&event(*recruiter)).unwrap()).collect();
    bencher.bench(|| plan(black_box(&events)));
}

#[divan::bench]
fn decode_a_recruiter_and_its_jobs(bencher: Bencher<'_, '_>) {
    let raw = recruiter();
    bencher.bench(|| {
        let recruiter = Recruiter::read(black_box(&raw)).unwrap();
        recruiter.jobs.iter().filter(|job| black_box(job.fields()).is_ok()).count()
    });
}

#[divan::bench]
fn project_one_job(bencher: Bencher<'_, '_>) {
    let raw = recruiter();
    let recruiter = Recruiter::read(&raw).unwrap();
    let job = recruiter.jobs.first().unwrap();
    bencher.bench(|| offer(black_box(&recruiter), black_box(job)));
}

#[divan::bench]
fn compare_one_offer(bencher: Bencher<'_, '_>) {
    let raw = recruiter();
    let recruiter = Recruiter::read(&raw).unwrap();
    let offer = offer(&recruiter, recruiter.jobs.first().unwrap()).unwrap();
    let mut standing = rawdoc! { "_id": offer.id, "stats_detail_view": 3 };
    for (name, value) in offer.fields.iter().flatten() {
        standing.append(name, value);
    }
    bencher.bench(|| compare(black_box(&offer), Some(black_box(&standing))));
}
