//! The job `send-introductions` (4.7): tells the user of an offer with few applications that a training centre nearby
//! prepares for the offer's occupation. The offer is marked when the message is sent, and also when no centre is near.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bson::raw::{CString, cstr};
use bson::{Bson, DateTime, Document, RawDocument, Regex, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use mongodb::raw_batch_cursor::RawBatch;

use super::super::offer_and_job::{Edit, Pair, PairFields, PairVerdict};
use super::super::report::ReportLine;
use super::emails::{self, Later, Subject, email, leave, recipients, send};
use super::unsettled::unsettled;
use crate::error::Failure;
use crate::failpoint;
use crate::interruption::Unfinished;
use crate::mail::email::Template;
use crate::mail::mailer::{MailItem, Mailer};
use crate::mail::outbox;
use crate::model::ids::{JobId, UserId};
use crate::model::names::OFFERS;
use crate::model::names::{APPLICATIONS, COURSES, UNSUBSCRIBED};
use crate::model::user_id::user_id;
use crate::model::{OfferStatus, TargetSchema, value};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::{collection, documents, find};
use crate::ticker::job_context::JobContext;

const DAY: i64 = 24 * 3_600_000;
/// The number of offers that are in memory at once.
const CHUNK: usize = 50;
/// The number of applications from which an offer needs no introduction (spec 05).
const ENOUGH: i64 = 15;
/// The maximal distance between an offer and a centre (spec 05).
const KILOMETRES: f64 = 100.0;
/// The radius of the earth, as MongoDB has it (manual, "$centerSphere").
const EARTH_KILOMETRES: f64 = 6378.1;
/// The field that marks the offer, and its job, with the time of the run.
const FIELD: &str = "mer_sent";
const FIELDS: PairFields = PairFields { offer: &[FIELD], job: &[FIELD], recruiter: &[] };
/// The number of characters of a ROME code that name its field.
const FIELD_OF_CODE: usize = 3;

/// The selection of the job among our offers: active offers without a mark, not delegated, created 5 to 45 days ago.
#[must_use]
pub fn selects(now: DateTime) -> Document {
    let ago = |days: i64| DateTime::from_millis(now.timestamp_millis().saturating_sub(days * DAY));
    let mut selects = doc! {
        "offer_status": OfferStatus::Active.as_str(),
        "is_delegated": { "$ne": true },
        "created_at": { "$gte": ago(45), "$lte": ago(5) },
    };
    selects.insert(FIELD, Bson::Null);
    selects
}

/// A filter of the certified courses near this point, for one of these occupations, with an address that the platform
/// writes to when an offer is delegated.
#[must_use]
pub fn courses(longitude: f64, latitude: f64, occupations: &[Bson]) -> Document {
    let circle = doc! { "$centerSphere": [[longitude, latitude], KILOMETRES / EARTH_KILOMETRES] };
    let contacts = ["etablissement_gestionnaire_courriel", "etablissement_formateur_courriel"];
    let contact = |field: &str| Bson::Document(doc! { field: { "$nin": [Bson::Null, Bson::from("")] } });
    doc! {
        "lieu_formation_geopoint": { "$geoWithin": circle },
        "rome_codes": { "$in": occupations },
        "certifie_qualite": true,
        // A course that the catalogue does not show any more does not count.
        "catalogue_published": { "$ne": false },
        "$or": contacts.map(contact).to_vec(),
    }
}

/// The occupations to search courses for: the ROME codes themselves, then all codes of the same field, which have the
/// first three characters in common.
#[must_use]
pub fn occupations(codes: &[&str]) -> [Vec<Bson>; 2] {
    let is_code = |code: &&&str| code.len() >= FIELD_OF_CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let fields: BTreeSet<&str> = codes.iter().filter(is_code).filter_map(|code| code.get(..FIELD_OF_CODE)).collect();
    let begins = |field: &str| {
        let pattern = CString::try_from(format!("^{field}")).ok()?;
        Some(Bson::RegularExpression(Regex { pattern, options: cstr!("").into() }))
    };
    [codes.iter().map(|code| Bson::from(*code)).collect(), fields.into_iter().filter_map(begins).collect()]
}

/// The aggregation that counts the applications of these offers. An offer without applications is not in the result.
#[must_use]
pub fn applications(offers: &[JobId]) -> [Document; 2] {
    // Old applications have the id of the offer as text.
    let ids = offers.iter().flat_map(|offer| [Bson::from(*offer), Bson::from(offer.to_string())]);
    let ids: Vec<Bson> = ids.collect();
    [
        doc! { "$match": { "job_id": { "$in": ids } } },
        doc! { "$group": { "_id": "$job_id", "count": { "$sum": 1_i64 } } },
    ]
}

/// Sends the introductions. The run gives up where the mailer cannot be opened.
///
/// # Errors
/// As [`JobContext::change`]; a failure of the database while sending.
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let mailer = emails::mailer(job).await;
    if job.report.gave_up.is_some() {
        return Ok(());
    }
    let outcome = Box::pin(introduce(job, mailer.as_ref())).await;
    match mailer {
        Some(mailer) => emails::conclude(job, &mailer, outcome).await,
        None => outcome,
    }
}

async fn introduce(job: &mut JobContext, mailer: Option<&Mailer>) -> Result<(), Unfinished> {
    let unsubscribed = unsubscribed(job).await?;
    let mut cursor = job.cursor(OFFERS, job.ours(selects(job.now))).await?;
    let mut later = Later::default();
    while let Some(offers) = job.next::<JobId>(&mut cursor).await? {
        for offers in offers.chunks(CHUNK) {
            if !introduce_some(job, mailer, offers, &unsubscribed, Some(&mut later)).await? {
                return Ok(());
            }
        }
    }
    let later: Vec<JobId> = later.in_turn().into_iter().map(|(offer, _)| offer).collect();
    for offers in later.chunks(CHUNK) {
        if !introduce_some(job, mailer, offers, &unsubscribed, None).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// The `_id` of an offer, and the `_id` of its user where the offer names one.
type Owned = (JobId, Option<UserId>);

/// Sends the introductions of these offers, except offers that go into `later`. False when the mail server is down, and
/// the run must end.
async fn introduce_some(
    job: &mut JobContext,
    mailer: Option<&Mailer>,
    offers: &[JobId],
    unsubscribed: &HashSet<String>,
    later: Option<&mut Later<Owned>>,
) -> Result<bool, Unfinished> {
    job.check()?;
    let mut filter = job.ours(selects(job.now));
    filter.insert("_id", doc! { "$in": offers });
    let mut wanted = emails::fields();
    wanted.extend(doc! { "workplace_geopoint": 1, "offer_rome_codes": 1 });
    let batches = find(&job.context.database, OFFERS, filter, wanted).await?;
    let kept = Box::pin(keep(job, &batches, later)).await?;
    let unsettled = unsettled(job, &batches, "mer_sent").await?;
    let counts = count_applications(job, offers).await?;
    let (mut near, mut marks) = (Vec::new(), Vec::new());
    for document in documents(&batches) {
        let document = document?;
        let Some(subject) = Subject::read(document) else { continue };
        if kept.contains(&subject.id) {
            continue;
        }
        if unsettled.contains(&subject.id) {
            leave(job, subject.id, "not_settled");
        } else if counts.get(&subject.id).is_some_and(|count| *count >= ENOUGH) {
            leave(job, subject.id, "enough_applications");
        } else if let Some((longitude, latitude)) = place(document) {
            if is_near_centre(job, (longitude, latitude), &codes(document), unsubscribed).await? {
                near.push(subject)
            } else {
                job.tell(ReportLine::new(subject.id, "no_centre", [""; 0]));
                marks.push(subject.id);
            }
        } else {
            // The offer gets no mark: it may get a point later.
            leave(job, subject.id, "no_geopoint");
        }
    }
    drop(batches);
    let items = items(job, near).await?;
    match mailer {
        Some(mailer) => marks.extend(send(job, mailer, items).await?),
        None => marks.extend(items.into_iter().flat_map(|item| item.offers)),
    }
    let (now, schema) = (job.now, job.context.target.schema());
    job.change(&marks, &FIELDS, &|pair| plan(pair, now, &schema)).await?;
    failpoint::passed("mail_marked");
    job.progress().await?;
    Ok(!mailer.is_some_and(Mailer::is_down))
}

/// Moves the offers whose user has a deferred last message into `later`. Returns the ids of the moved offers.
async fn keep(
    job: &JobContext,
    batches: &[RawBatch],
    later: Option<&mut Later<Owned>>,
) -> Result<BTreeSet<JobId>, Failure> {
    let Some(later) = later else { return Ok(BTreeSet::new()) };
    let mut owned: Vec<Owned> = Vec::new();
    for document in documents(batches) {
        let document = document?;
        let Ok(offer) = document.get_object_id("_id").map(JobId) else { continue };
        owned.push((offer, user_id(value::field(document, "managed_by"))));
    }
    let mut kept: BTreeSet<JobId> = owned.iter().map(|(offer, _)| *offer).collect();
    for (now, _) in later.set_aside(job, owned, |(_, user)| *user).await? {
        kept.remove(&now);
    }
    Ok(kept)
}

fn codes(offer: &RawDocument) -> Vec<&str> {
    match value::field(offer, "offer_rome_codes") {
        Some(codes) if codes.as_str().is_some() => codes.as_str().into_iter().collect(),
        codes => value::list(codes).into_iter().flatten().flatten().filter_map(|code| code.as_str()).collect(),
    }
}

async fn items(job: &mut JobContext, near: Vec<Subject>) -> Result<Vec<MailItem>, Failure> {
    let users: BTreeSet<UserId> = near.iter().filter_map(|subject| subject.user).collect();
    let known = recipients(job, &users).await?;
    let id = |subject: &Subject| format!("{}/{}", Template::Introduction.name(), subject.id);
    let ids: Vec<String> = near.iter().map(id).collect();
    let mut entries = outbox::read(&job.context.database, &ids).await?;
    let mut items = Vec::new();
    for subject in near {
        let known = subject.user.and_then(|user| Some((user, known.get(&user)?)));
        match known
            .map_or(Err("no_user"), |(user, recipient)| recipient.as_ref().map(|one| (user, one)).map_err(|why| *why))
        {
            Ok((user, recipient)) => {
                let (id, offers) = (id(&subject), vec![subject.id]);
                let email = email(job, Template::Introduction, recipient, &[&subject]);
                let (entry, to) = (entries.remove(&id), recipient.to.clone());
                items.push(MailItem { entry, id, user, to, email, offers });
            }
            Err(reason) => leave(job, subject.id, reason),
        }
    }
    Ok(items)
}

fn plan(pair: &Pair<'_>, now: DateTime, schema: &TargetSchema) -> PairVerdict {
    match pair.mark(FIELD, schema) {
        Some(_) => PairVerdict::default(),
        None => PairVerdict::edit(Edit::both(FIELD, FIELD, now)),
    }
}

/// The longitude and latitude of an offer; `None` where they are missing or out of range.
fn place(offer: &RawDocument) -> Option<(f64, f64)> {
    let point = value::object(value::field(offer, "workplace_geopoint"))?;
    let mut coordinates = value::list(value::field(point, "coordinates"))?.into_iter().flatten().map(number);
    let (longitude, latitude) = (coordinates.next()??, coordinates.next()??);
    ((-180.0..=180.0).contains(&longitude) && (-90.0..=90.0).contains(&latitude)).then_some((longitude, latitude))
}

fn number(value: bson::RawBsonRef<'_>) -> Option<f64> {
    value.as_f64().or_else(|| value.as_i32().map(f64::from))
}

async fn count_applications(job: &JobContext, offers: &[JobId]) -> Result<BTreeMap<JobId, i64>, Failure> {
    let collection = collection(&job.context.database, APPLICATIONS);
    let counts = with_deadline(collection.aggregate(applications(offers))).await.map_err(Failure::Read)?;
    let counts: Vec<Document> = with_deadline(counts.try_collect()).await.map_err(Failure::Read)?;
    let mut by_offer = BTreeMap::new();
    for group in counts {
        let offer = match group.get("_id") {
            Some(Bson::ObjectId(offer)) => Some(*offer),
            Some(Bson::String(offer)) => ObjectId::parse_str(offer).ok(),
            _ => None,
        };
        if let (Some(offer), Ok(count)) = (offer.map(JobId), group.get_i64("count")) {
            *by_offer.entry(offer).or_default() += count;
        }
    }
    Ok(by_offer)
}

/// The ids in the catalogue, and the sirets, of the centres that want no messages. There are a few hundred, so all of
/// them are in memory.
async fn unsubscribed(job: &JobContext) -> Result<HashSet<String>, Failure> {
    let wanted = doc! { "catalogue_id": 1, "establishment_siret": 1 };
    let batches = find(&job.context.database, UNSUBSCRIBED, doc! {}, wanted).await?;
    let mut ids = HashSet::new();
    for centre in documents(&batches) {
        ids.extend(names(centre?, &["catalogue_id", "establishment_siret"]));
    }
    Ok(ids)
}

/// True where a centre that wants messages has a course for one of these codes near this place, or else for another
/// code of the same field.
async fn is_near_centre(
    job: &JobContext,
    (longitude, latitude): (f64, f64),
    codes: &[&str],
    unsubscribed: &HashSet<String>,
) -> Result<bool, Failure> {
    for occupations in occupations(codes).iter().filter(|occupations| !occupations.is_empty()) {
        if has_centre(job, courses(longitude, latitude, occupations), unsubscribed).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True where at least one of the courses belongs to a centre that wants messages.
async fn has_centre(job: &JobContext, filter: Document, unsubscribed: &HashSet<String>) -> Result<bool, Failure> {
    const CENTRE: [&str; 3] =
        ["etablissement_formateur_id", "etablissement_formateur_siret", "etablissement_gestionnaire_siret"];
    let wanted: Document = CENTRE.iter().map(|field| ((*field).to_owned(), Bson::Int32(1))).collect();
    let courses = collection(&job.context.database, COURSES);
    let courses = courses.find(filter).projection(wanted).batch_size(100);
    let mut courses = with_deadline(courses.batch()).await.map_err(Failure::Read)?;
    // The courses are read in batches, because usually the first course decides.
    while let Some(batch) = with_deadline(courses.try_next()).await.map_err(Failure::Read)? {
        let batch = [batch];
        for course in documents(&batch) {
            if names(course?, &CENTRE).all(|name| !unsubscribed.contains(&name)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn names<'a>(document: &'a RawDocument, fields: &'a [&'a str]) -> impl Iterator<Item = String> + 'a {
    fields.iter().filter_map(|field| {
        let name = value::field(document, field)?;
        name.as_object_id().map(ObjectId::to_hex).or_else(|| name.as_str().map(ToOwned::to_owned))
    })
}

#[cfg(test)]
mod tests {
    use bson::RawDocumentBuf;

    use super::*;

    #[test]
    fn the_ages_are_right_to_the_millisecond() {
        let now = DateTime::parse_rfc3339_str("2026-07-14T22:00:00Z").unwrap();
        let selects = selects(now);
        let created = selects.get_document("created_at").unwrap();
        let at = |text: &str| DateTime::parse_rfc3339_str(text).unwrap();
        assert_eq!(created.get_datetime("$gte").unwrap(), &at("2026-05-30T22:00:00Z"));
        assert_eq!(created.get_datetime("$lte").unwrap(), &at("2026-07-09T22:00:00Z"));
    }

    #[test]
    fn a_code_falls_back_to_its_field() {
        let [codes, fields] = occupations(&["D1102", "D1106", "M18", "M1", ".*+?"]);
        assert_eq!(codes.len(), 5);
        let patterns: Vec<&str> = fields
            .iter()
            .map(|field| match field {
                Bson::RegularExpression(Regex { pattern, .. }) => pattern.as_str(),
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(patterns, ["^D11", "^M18"]);
    }

    #[test]
    fn a_place_is_two_numbers_in_range() {
        let place = |coordinates: Bson| {
            let offer = doc! { "workplace_geopoint": { "type": "Point", "coordinates": coordinates } };
            super::place(&RawDocumentBuf::try_from(&offer).unwrap())
        };
        assert_eq!(place(bson::bson!([2.35, 48.85])), Some((2.35, 48.85)));
        assert_eq!(place(bson::bson!([2, 48])), Some((2.0, 48.0)));
        assert_eq!(place(bson::bson!([48.85, 248.0])), None);
        assert_eq!(place(bson::bson!(["2", "48"])), None);
        assert_eq!(place(bson::bson!([2])), None);
    }
}
