//! The product's pure code over whole documents. Documents and statements have numbers, so that a state stays small and
//! the product is asked once.

use std::sync::{Arc, Mutex};

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use stream_processor::inside::{
    Offer, OfferChange, ProjectionSettings, Recruiter, References, compare, of_change, project, unless_newer,
};

use super::state::Job;
use crate::memory::Memory;
use crate::server::{Server, Statement, run};

/// Values with numbers.
#[derive(Debug)]
struct Numbered<T>(Mutex<Vec<T>>);

impl<T: Clone + PartialEq> Numbered<T> {
    fn number(&self, value: T) -> u32 {
        let mut values = self.0.lock().expect("no other thread failed");
        let known = values.iter().position(|known| *known == value);
        let place = known.unwrap_or_else(|| {
            values.push(value);
            values.len() - 1
        });
        u32::try_from(place).expect("few values")
    }

    fn value(&self, number: u32) -> T {
        self.0.lock().expect("no other thread failed")[usize::try_from(number).expect("a place")].clone()
    }
}

/// What an offer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) job: Job,
    pub(super) is_active: bool,
}

#[derive(Debug)]
pub(crate) struct Documents {
    offers: Numbered<Document>,
    statements: Numbered<Statement>,
    projected: Memory<Job, Arc<Offer>>,
    planned: Memory<(Job, u32, bool), Option<u32>>,
    after: Memory<(u32, u32), Option<u32>>,
    edited: Memory<(u32, Job), u32>,
    closed: Memory<(u32, u8, bool), u32>,
    shown: Memory<u32, Shown>,
}

impl Documents {
    pub(super) fn new() -> Self {
        Self {
            offers: Numbered(Mutex::default()),
            statements: Numbered(Mutex::default()),
            projected: Memory::default(),
            planned: Memory::default(),
            after: Memory::default(),
            edited: Memory::default(),
            closed: Memory::default(),
            shown: Memory::default(),
        }
    }

    fn projected(&self, job: Job) -> Arc<Offer> {
        self.projected.get(job, |job| Arc::new(projection(*job)))
    }

    /// The offer that the product creates for the job.
    pub(super) fn created(&self, job: Job) -> u32 {
        let projected = self.projected(job);
        let statement = of_change(&projected, &OfferChange::Create, false).expect("a creation");
        let created = run(&Server::at(0), &Statement::of(&statement), None).expect("an upsert");
        self.offers.number(created)
    }

    /// The statement by which the product changes the offer to the projection of the job, with or without "newest wins";
    /// `None` where it writes nothing. `conditions` is false for a statement without the product's conditions.
    pub(super) fn planned(&self, job: Job, offer: u32, newest_wins: bool, conditions: bool) -> Option<u32> {
        let planned = self.planned.get((job, offer, newest_wins), |_| {
            let projected = self.projected(job);
            let existing = RawDocumentBuf::try_from(&self.offers.value(offer)).expect("an offer");
            let change = compare(&projected, Some(&existing));
            let change = if newest_wins { unless_newer(change, projected.hides_contact).0 } else { change };
            let statement = of_change(&projected, &change, newest_wins)?;
            Some(self.statements.number(Statement::of(&statement)))
        });
        let bare = |number| {
            let statement = self.statements.value(number).only_with_label();
            self.statements.number(statement)
        };
        if conditions { planned } else { planned.map(bare) }
    }

    /// The offer after the statement; `None` where the conditions of the statement do not hold.
    pub(super) fn after(&self, statement: u32, offer: u32) -> Option<u32> {
        self.after.get((statement, offer), |_| {
            let offer = self.offers.value(offer);
            let after = run(&Server::at(0), &self.statements.value(statement), Some(&offer))?;
            Some(self.offers.number(after))
        })
    }

    /// The offer after an application wrote the title and the date of the job, and what follows from the title.
    pub(super) fn edited(&self, offer: u32, job: Job) -> u32 {
        self.edited.get((offer, job), |_| {
            let mut edited = self.offers.value(offer);
            edited.extend(Document::try_from(self.projected(job).fields.as_ref()).expect("an offer"));
            self.offers.number(edited)
        })
    }

    /// The offer after somebody else filled it at the time of this write. Some programs leave `updated_at` alone.
    pub(super) fn closed(&self, offer: u32, number: u8, moves_date: bool) -> u32 {
        self.closed.get((offer, number, moves_date), |_| {
            let mut closed = self.offers.value(offer);
            let at = date(Job::written(number));
            let entry = doc! { "status": "Filled", "granted_by": "jobs.controller.v2", "date": at, "reason": "filled" };
            let history = closed.get_array("offer_status_history").cloned().unwrap_or_default();
            let history: Vec<Bson> = history.into_iter().chain([entry.into()]).collect();
            closed.extend(doc! { "offer_status": "Filled", "offer_status_history": history });
            if moves_date {
                closed.insert("updated_at", at);
            }
            self.offers.number(closed)
        })
    }

    /// What the offer shows.
    pub(super) fn shown(&self, offer: u32) -> Shown {
        self.shown.get(offer, |offer| {
            let offer = self.offers.value(*offer);
            let title = offer.get_str("offer_title").expect("a title");
            let date = offer.get_datetime("updated_at").expect("a date").timestamp_millis();
            let title = title.trim_start_matches("Title ").parse().expect("a number");
            Shown {
                job: Job { title, date },
                is_active: offer.get_str("offer_status").is_ok_and(|status| status == "Active"),
            }
        })
    }
}

fn title(job: Job) -> String {
    format!("Title {}", job.title)
}

fn date(job: Job) -> DateTime {
    DateTime::from_millis(job.date)
}

/// The product's projection of a recruiter with this job.
fn projection(job: Job) -> Offer {
    let recruiter = doc! {
        "_id": ObjectId::from_bytes([1; 12]), "status": "Actif", "establishment_siret": "12345678901234",
        "establishment_raison_sociale": "A company", "email": "contact@example.com", "is_delegated": false,
        "address": "A street", "geo_coordinates": "48.8,2.3", "managed_by": "a0a0a0a0a0a0a0a0a0a0a0a0",
        "establishment_id": "an establishment", "updatedAt": DateTime::from_millis(0),
        "jobs": [{
            "_id": ObjectId::from_bytes([2; 12]), "job_status": "Active", "offer_title_custom": title(job),
            "job_update_date": date(job), "job_creation_date": DateTime::from_millis(0), "rome_code": ["A1101"],
            "job_expiration_date": DateTime::from_millis(1_000),
        }],
    };
    let recruiter = RawDocumentBuf::try_from(&recruiter).expect("a recruiter");
    let recruiter = Recruiter::read(&recruiter).expect("a recruiter");
    let settings = ProjectionSettings {
        partner_label: "offres_emploi_lba".to_owned(),
        public_url: "https://example.com".to_owned(),
        offer_type: "offres".to_owned(),
        anonymized_email: "anonymized@example.com".to_owned(),
        cancels_deactivated: false,
        schema: Arc::default(),
    };
    let job = &recruiter.jobs[0];
    let fields = job.fields().expect("a job");
    project(&recruiter.fields, job.id.expect("an id"), &fields, &References::default(), &settings).expect("an offer")
}
