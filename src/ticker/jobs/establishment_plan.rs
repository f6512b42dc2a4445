//! The plan of the job `refresh-pending-establishments` (4.6): what becomes of an offer whose establishment the company
//! directory knows. The changed recruiter projects to the changed offer. Pure.

use std::collections::BTreeSet;

use bson::{Bson, DateTime, Document, RawBsonRef, doc};

use super::super::offer_and_job::{Edit, OwnedJob, Pair, PairFields, PairVerdict};
use super::super::report::ReportLine;
use crate::directory::{Address, Company, Point};
use crate::model::ids::JobId;
use crate::model::offer::ESTABLISHMENT_VERIFIED;
use crate::model::{OfferStatus, TargetSchema, value};
use crate::project::offer_status;

/// The two spellings of the status, its label and its name (spec 02, "offer_status").
pub(super) const PENDING: [&str; 2] = ["En attente de validation", "EN_ATTENTE_VALIDATION"];
const ACTIVE: &str = "Actif";
const ARCHIVED: &str = "Archivé";

/// The fields that the plan reads.
pub(super) const FIELDS: PairFields = PairFields {
    offer: &[
        "recruiter_status",
        "offer_status",
        "offer_expiration",
        "offer_status_history",
        "workplace_siret",
        "workplace_address_label",
        "workplace_geopoint",
    ],
    job: &["job_status", "job_update_date", "job_expiration_date"],
    recruiter: &["status", "establishment_siret", "establishment_location"],
};

/// A reason to archive an establishment (spec 09, "Pending establishments").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Closed,
    Unpublished,
    TrainingBody,
}

impl Refusal {
    /// The label of establishments that stay pending.
    pub(super) fn left(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Unpublished => "unpublished",
            Self::TrainingBody => "training_body",
        }
    }

    /// The label of offers that are archived.
    fn archived(self) -> &'static str {
        match self {
            Self::Closed => "archived_closed",
            Self::Unpublished => "archived_unpublished",
            Self::TrainingBody => "archived_training_body",
        }
    }

    /// The reason in history entries.
    fn reason(self) -> &'static str {
        match self {
            Self::Closed => "établissement fermé",
            Self::Unpublished => "établissement non diffusible",
            Self::TrainingBody => "organisme de formation",
        }
    }
}

/// A company with a name and an address, which every active establishment needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verified {
    pub name: String,
    pub address: Address,
    /// The point of the address; `None` where no service knows it.
    pub point: Option<Point>,
    /// The rest, which may be unknown.
    pub company: Company,
}

/// The decision about an establishment.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    Activate(Box<Verified>),
    Archive(Refusal),
}

/// The plan for the offers of one establishment.
#[derive(Debug)]
pub(super) struct EstablishmentPlan<'a> {
    pub decision: &'a Decision,
    /// The siret that was looked up.
    pub siret: &'a str,
    pub now: DateTime,
    /// True where offers of deactivated users are cancelled. The plan does not know whether the user is deactivated:
    /// then an offer with a job keeps its status, and the stream decides.
    pub cancels: bool,
    /// The schema of the target, which decides whether an offer can be pending.
    pub schema: &'a TargetSchema,
    /// The offers without a job here whose job is not active, as far as `recruiters` still tells.
    pub not_active: &'a BTreeSet<JobId>,
}

impl EstablishmentPlan<'_> {
    /// Plans the change of one offer.
    pub(super) fn plan(&self, pair: &Pair<'_>) -> PairVerdict {
        let is_pending = |status: Option<RawBsonRef<'_>>| PENDING.map(Some).contains(&value::text(status));
        let is_looked_up = |siret| value::text(siret) == Some(self.siret);
        if !is_pending(pair.field("recruiter_status")) || !is_looked_up(pair.field("workplace_siret")) {
            return PairVerdict::default();
        }
        if let Some(OwnedJob { recruiter, .. }) = pair.owned_job
            && !(is_pending(value::field(recruiter, "status"))
                && is_looked_up(value::field(recruiter, "establishment_siret")))
        {
            return PairVerdict::skip("not_settled");
        }
        match self.decision {
            Decision::Archive(refusal) => self.archive(pair, *refusal),
            Decision::Activate(verified) => self.activate(pair, verified),
        }
    }

    /// Archives the recruiter and cancels the offer. The job keeps its status and its date: nobody edited it, and a
    /// closing by somebody else still stands when the recruiter is active again.
    fn archive(&self, pair: &Pair<'_>, refusal: Refusal) -> PairVerdict {
        let mut recruiter = doc! { "status": ARCHIVED };
        recruiter.extend(self.updated(pair));
        PairVerdict::edit(Edit {
            offer: doc! { "recruiter_status": ARCHIVED },
            status: Some((OfferStatus::Cancelled, refusal.reason(), self.now)),
            kind: Some(refusal.archived()),
            recruiter,
            ..Edit::default()
        })
    }

    fn activate(&self, pair: &Pair<'_>, verified: &Verified) -> PairVerdict {
        let Some(point) = verified.point.or_else(|| point_of_same_address(pair, &verified.address)) else {
            let lines = vec![ReportLine::new(pair.id, "no_geopoint", ["workplace_geopoint"])];
            return PairVerdict { lines, ..PairVerdict::skip("no_geopoint") };
        };
        let job_status = pair.owned_job.and_then(|owned| value::field(owned.job, "job_status"));
        let projected = match pair.owned_job {
            None => self.without_job(pair),
            Some(_) => match offer_status(Some(RawBsonRef::String(ACTIVE)), job_status) {
                Err(_) => return PairVerdict::skip("unknown_job_status"),
                Ok(status) => Some(self.schema.status(status)),
            },
        };
        let decides = pair.owned_job.is_none() || !(self.cancels || is_waiting(job_status));
        let stands = value::text(pair.field("offer_status"));
        let status = projected
            .filter(|status| decides && stands != Some(status.as_str()))
            .filter(|_| !pair.closing_stands())
            .map(|status| (status, ESTABLISHMENT_VERIFIED, self.now));
        let (offer, recruiter) = both_sides(pair, verified, point);
        let mut edit = Edit { offer, recruiter, status, ..Edit::default() };
        if status.is_some() || pair.is_open() {
            return PairVerdict::edit(edit.moving(self.now));
        }
        // The job was not edited, so its date stays. The projection gives that date to a closed offer of an active
        // recruiter.
        let updated = self.updated(pair);
        let is_closed = projected.is_some_and(|status| !status.is_open());
        if let Some(OwnedJob { job, .. }) = pair.owned_job.filter(|_| is_closed && !pair.newest_wins) {
            let of_job = value::field(job, "job_update_date").and_then(|date| Bson::try_from(date).ok());
            edit.offer.insert("updated_at", of_job.or_else(|| updated.get("updatedAt").cloned()));
        }
        edit.recruiter.extend(updated);
        PairVerdict::edit(edit)
    }

    /// `updatedAt` of the changed recruiter, which never goes back; nothing where there is no recruiter.
    fn updated(&self, pair: &Pair<'_>) -> Document {
        let Some(OwnedJob { recruiter, .. }) = pair.owned_job else { return Document::new() };
        let stands = value::field(recruiter, "updatedAt").and_then(RawBsonRef::as_datetime);
        doc! { "updatedAt": stands.max(Some(self.now)) }
    }

    /// The new status of an offer without a job. An offer with an empty history waited only for its recruiter, and
    /// becomes active. An offer that somebody cancelled, that has expired or whose job is not active keeps its status.
    fn without_job(&self, pair: &Pair<'_>) -> Option<OfferStatus> {
        let changed = value::list(pair.field("offer_status_history")).is_some_and(|history| !history.is_empty());
        let expired = pair.date("offer_expiration").is_some_and(|expires| expires < self.now);
        (!changed && !expired && !self.not_active.contains(&pair.id)).then_some(OfferStatus::Active)
    }
}

/// True for a job that a person has not confirmed yet. Such a job keeps its status on both sides.
fn is_waiting(job_status: Option<RawBsonRef<'_>>) -> bool {
    matches!(value::text(job_status), Some("En attente" | "EN_ATTENTE"))
}

/// The point that stands, where it is that of the same address.
fn point_of_same_address(pair: &Pair<'_>, address: &Address) -> Option<Point> {
    value::text(pair.field("workplace_address_label")).filter(|label| *label == address.label)?;
    Point::read(value::object(pair.field("workplace_geopoint"))?)
}

/// The fields of the offer and of the recruiter, so that the recruiter projects to the offer (spec 02). What the directory
/// does not know stays as it is.
fn both_sides(pair: &Pair<'_>, verified: &Verified, point: Point) -> (Document, Document) {
    let Verified { name, address, company, .. } = verified;
    let mut offer = doc! {
        "recruiter_status": ACTIVE,
        "workplace_legal_name": name,
        "workplace_geopoint": point.geojson(),
        "workplace_address_label": &address.label,
        "workplace_address_zipcode": &address.zipcode,
        "workplace_address_city": &address.city,
    };
    let mut recruiter = doc! {
        "status": ACTIVE,
        "establishment_raison_sociale": name,
        "geopoint": point.geojson(),
        "geo_coordinates": point.coordinates(),
        "address": &address.label,
        "address_detail": &address.detail,
    };
    for (of_offer, of_recruiter, value) in [
        ("workplace_naf_code", "naf_code", &company.naf_code),
        ("workplace_naf_label", "naf_label", &company.naf_label),
        ("workplace_size", "establishment_size", &company.size),
    ] {
        if let Some(value) = value {
            offer.insert(of_offer, value);
            recruiter.insert(of_recruiter, value);
        }
    }
    if let Some(created) = company.created {
        recruiter.insert("establishment_creation_date", created);
    }
    // The projection takes the town of an old document before that of the address.
    let old_town = pair.owned_job.and_then(|owned| value::field(owned.recruiter, "establishment_location"));
    if old_town.is_some() {
        recruiter.insert("establishment_location", &address.city);
    }
    (offer, recruiter)
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, oid::ObjectId};

    use super::*;

    const NOW: DateTime = DateTime::from_millis(1_000_000);
    const SIRET: &str = "11111111100011";

    fn verified(point: Option<Document>) -> Decision {
        let point = point.and_then(|point| Point::read(&RawDocumentBuf::try_from(&point).unwrap()));
        let address = Address {
            label: "7 RUE DES ESSAIS 69001 LYON".to_owned(),
            street: Some("7 RUE DES ESSAIS".to_owned()),
            zipcode: "69001".to_owned(),
            city: "LYON".to_owned(),
            detail: doc! { "code_postal": "69001", "libelle_commune": "LYON" },
        };
        Decision::Activate(Box::new(Verified {
            name: "EXEMPLE SAS".to_owned(),
            address,
            point,
            company: Company::default(),
        }))
    }

    fn point() -> Document {
        doc! { "type": "Point", "coordinates": [4.83, 45.76] }
    }

    fn planned(decision: &Decision, offer: Document, owned_job: Option<(Document, Document)>) -> PairVerdict {
        let raw = |document: Document| RawDocumentBuf::try_from(&document).unwrap();
        let offer = raw(offer);
        let owned_job = owned_job.map(|(recruiter, job)| (raw(recruiter), raw(job)));
        let owned_job = owned_job.as_ref().map(|(recruiter, job)| OwnedJob { recruiter, job });
        let pair = Pair { id: JobId(ObjectId::new()), offer: &offer, owned_job, newest_wins: false };
        let not_active = BTreeSet::new();
        let schema = TargetSchema::default();
        let plan = EstablishmentPlan {
            decision,
            siret: SIRET,
            now: NOW,
            cancels: false,
            schema: &schema,
            not_active: &not_active,
        };
        plan.plan(&pair)
    }

    fn pending(fields: Document) -> Document {
        let mut offer = doc! {
            "recruiter_status": PENDING[0], "offer_status": "Cancelled", "offer_status_history": [],
            "workplace_siret": SIRET,
        };
        offer.extend(fields);
        offer
    }

    fn recruiter(fields: Document) -> Document {
        let mut recruiter = doc! { "status": PENDING[1], "establishment_siret": SIRET };
        recruiter.extend(fields);
        recruiter
    }

    #[test]
    fn the_status_of_the_job_decides_what_the_offer_becomes() {
        let decision = verified(Some(point()));
        for (job, status) in [
            ("Active", Some(OfferStatus::Active)),
            ("Pourvue", Some(OfferStatus::Filled)),
            ("Annulée", None),
            ("En attente", None),
            ("EN_ATTENTE", None),
        ] {
            let owned_job = (recruiter(doc! {}), doc! { "job_status": job, "job_update_date": DateTime::MIN });
            let edit = planned(&decision, pending(doc! {}), Some(owned_job)).edit.unwrap();
            assert_eq!(edit.status.map(|status| status.0), status, "{job}");
            assert_eq!((edit.moved, edit.job), (status.map(|_| NOW), doc! {}), "{job}");
            let updated_at = edit.offer.get_datetime("updated_at").ok().copied();
            assert_eq!(updated_at, status.is_none().then_some(DateTime::MIN), "{job}: as the projection has it");
            assert!(!edit.recruiter.contains_key("naf_code"), "what is not known is left as it is");
        }
        let unknown = planned(&decision, pending(doc! {}), Some((recruiter(doc! {}), doc! { "job_status": "?" })));
        assert_eq!(unknown, PairVerdict::skip("unknown_job_status"));
    }

    #[test]
    fn without_a_job_an_offer_that_was_cancelled_or_has_ended_stays_cancelled() {
        let decision = verified(Some(point()));
        let status = |offer: Document| planned(&decision, offer, None).edit.unwrap().status.map(|status| status.0);
        assert_eq!(status(pending(doc! {})), Some(OfferStatus::Active));
        assert_eq!(status(pending(doc! { "offer_status_history": [{ "status": "Cancelled" }] })), None);
        assert_eq!(status(pending(doc! { "offer_expiration": DateTime::from_millis(999_999) })), None);
    }

    #[test]
    fn the_point_that_stands_counts_for_the_same_address_only() {
        let without = verified(None);
        let standing = |label: &str, point: Document| {
            let fields = doc! { "workplace_address_label": label, "workplace_geopoint": point };
            planned(&without, pending(fields), None)
        };
        let edit = standing("7 RUE DES ESSAIS 69001 LYON", point()).edit.unwrap();
        assert_eq!(edit.offer.get_document("workplace_geopoint").unwrap(), &point());
        for (label, point) in [("8 RUE DES ESSAIS 69001 LYON", point()), ("7 RUE DES ESSAIS 69001 LYON", doc! {})] {
            let left = standing(label, point);
            assert_eq!((left.edit, left.skipped, left.lines.len()), (None, Some("no_geopoint"), 1), "{label}");
        }
    }

    #[test]
    fn an_old_document_has_the_town_of_the_directory_too() {
        let decision = verified(Some(point()));
        let town = |fields: Document| {
            let owned_job = Some((recruiter(fields), doc! { "job_status": "Active" }));
            let edit = planned(&decision, pending(doc! {}), owned_job).edit.unwrap();
            edit.recruiter.get_str("establishment_location").ok().map(ToOwned::to_owned)
        };
        assert_eq!(town(doc! { "establishment_location": "Villeurbanne" }).as_deref(), Some("LYON"));
        assert_eq!(town(doc! {}), None, "new documents do not have the field");
    }

    #[test]
    fn another_siret_or_status_on_one_side_changes_nothing() {
        for decision in [verified(Some(point())), Decision::Archive(Refusal::Closed)] {
            let job = doc! { "job_status": "Active" };
            let other = recruiter(doc! { "establishment_siret": "22222222200022" });
            let not_settled = PairVerdict::skip("not_settled");
            assert_eq!(planned(&decision, pending(doc! {}), Some((other, job.clone()))), not_settled);
            let active = recruiter(doc! { "status": "Actif" });
            assert_eq!(planned(&decision, pending(doc! {}), Some((active, job))), not_settled);
            for offer in [doc! { "workplace_siret": "22222222200022" }, doc! { "recruiter_status": "Actif" }] {
                assert_eq!(planned(&decision, pending(offer), None), PairVerdict::default());
            }
        }
    }

    #[test]
    fn a_refused_establishment_is_archived_whatever_the_status_of_the_job() {
        for job in ["Active", "En attente", "?"] {
            let later = DateTime::from_millis(1_000_001);
            let owned_job = (recruiter(doc! { "updatedAt": later }), doc! { "job_status": job });
            let edit = planned(&Decision::Archive(Refusal::Closed), pending(doc! {}), Some(owned_job)).edit.unwrap();
            assert_eq!(edit.status, Some((OfferStatus::Cancelled, "établissement fermé", NOW)));
            assert_eq!(edit.recruiter, doc! { "status": "Archivé", "updatedAt": later }, "a date never goes back");
            assert_eq!((edit.job, edit.moved), (doc! {}, None), "the job was not edited");
        }
    }
}
