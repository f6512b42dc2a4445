//! The job `repair-offer-data` (4.5): repairs fields that have a safe repair. Other broken fields are reported by id
//! and name, and never changed.

use bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, doc};

use super::super::offer_and_job::{Edit, Pair, PairFields, PairVerdict};
use super::super::report::ReportLine;
use crate::interruption::Unfinished;
use crate::model::value;
use crate::ticker::job_context::JobContext;

/// Wrong spellings of `contract_rythm`, with the right ones (spec 05).
const RYTHMS: [(&str, &str); 3] =
    [("1 jours / 4 jours", "1 jour / 4 jours"), ("", "Indifférent"), ("Non renseigné", "Indifférent")];
const READ_AT: &str = "cfa_read_company_detail_at";
const CONTRACT_TYPES: [&str; 2] = ["Apprentissage", "Professionnalisation"];
const SHORTEST_TITLE: usize = 3;
const SIRET_DIGITS: usize = 14;
const FIELDS: PairFields = PairFields {
    offer: &[
        "contract_rythm",
        "delegations",
        "offer_title",
        "apply_email",
        "workplace_geopoint",
        "contract_type",
        "workplace_siret",
    ],
    job: &["job_rythm", "delegations"],
    recruiter: &[],
};

/// Repairs the selected offers and their jobs, and reports fields without a safe repair.
///
/// # Errors
/// As [`JobContext::change_selected`].
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let now = job.now;
    job.change_selected(selects(), &FIELDS, &|pair| plan(pair, now)).await
}

/// The selection of the job among our offers: offers with a field that may be broken. `plan` then looks more closely.
#[must_use]
pub fn selects() -> Document {
    let rythms: Vec<&str> = RYTHMS.iter().map(|(wrong, _)| *wrong).collect();
    let delegations = format!("delegations.{READ_AT}");
    let outside = |axis: &str, limit: i32| {
        let path = format!("workplace_geopoint.coordinates.{axis}");
        doc! { "$or": [{ &path: { "$lt": -limit } }, { &path: { "$gt": limit } }] }
    };
    doc! { "$or": [
        { "contract_rythm": { "$in": rythms } },
        { delegations: { "$type": "string" } },
        { "offer_title": { "$not": { "$regex": "^[\\s\\S]{3}" } } },
        { "apply_email": { "$ne": null, "$not": { "$regex": "^[^@\\s]+@[^@\\s]+\\.[^@\\s.]+$" } } },
        outside("0", 180),
        outside("1", 90),
        { "contract_type": { "$not": { "$type": "array" } } },
        { "contract_type": { "$elemMatch": { "$nin": CONTRACT_TYPES.to_vec() } } },
        { "workplace_siret": { "$not": { "$regex": "^[0-9]{14}$" } } },
    ] }
}

fn plan(pair: &Pair<'_>, now: DateTime) -> PairVerdict {
    let mut edit = Edit::default();
    let mut broken = broken(pair.offer);
    let rythm = pair.field("contract_rythm").and_then(RawBsonRef::as_str);
    let mut unsettled = false;
    if let Some((_, right)) = RYTHMS.iter().find(|(wrong, _)| rythm == Some(wrong)) {
        if pair.agrees("contract_rythm", "job_rythm") {
            edit = Edit::both("contract_rythm", "job_rythm", *right)
        } else {
            unsettled = true
        }
    }
    let (repaired, unreadable) = delegations(pair.offer);
    if unreadable {
        broken.push("delegations");
    }
    if let Some(repaired) = repaired {
        edit.offer.insert("delegations", repaired);
        // The job keeps its own delegations: their e-mail addresses may differ from those of the offer.
        if let Some(repaired) = pair.owned_job.and_then(|owned_job| delegations(owned_job.job).0) {
            edit.job.insert("delegations", repaired);
        }
    }
    let lines = if broken.is_empty() { Vec::new() } else { vec![ReportLine::new(pair.id, "broken", broken)] };
    let has_edit = !edit.offer.is_empty();
    let skipped = match (has_edit, lines.is_empty(), unsettled) {
        (false, _, true) => Some("not_settled"),
        (false, false, false) => Some("no_safe_repair"),
        _ => None,
    };
    PairVerdict { edit: has_edit.then(|| edit.moving(now)), skipped, lines }
}

/// The names of the fields of an offer that are broken and have no safe repair.
fn broken(offer: &RawDocument) -> Vec<&'static str> {
    let field = |name: &str| value::field(offer, name);
    let mut broken = Vec::new();
    if field("offer_title").and_then(RawBsonRef::as_str).is_none_or(|title| title.chars().count() < SHORTEST_TITLE) {
        broken.push("offer_title");
    }
    if field("apply_email").is_some_and(|email| !email.as_str().is_some_and(is_address)) {
        broken.push("apply_email");
    }
    if field("workplace_geopoint").is_some_and(is_out_of_range) {
        broken.push("workplace_geopoint");
    }
    let types = value::list(field("contract_type"));
    let is_known = |kind: RawBsonRef<'_>| kind.as_str().is_some_and(|kind| CONTRACT_TYPES.contains(&kind));
    if types.is_none_or(|types| types.into_iter().any(|kind| !kind.is_ok_and(is_known))) {
        broken.push("contract_type");
    }
    let is_siret = |siret: &str| siret.len() == SIRET_DIGITS && siret.bytes().all(|byte| byte.is_ascii_digit());
    if !field("workplace_siret").and_then(RawBsonRef::as_str).is_some_and(is_siret) {
        broken.push("workplace_siret");
    }
    broken
}

/// True for a text with one `@` between two parts, a dot inside the second part, and no white space.
fn is_address(text: &str) -> bool {
    let Some((name, domain)) = text.split_once('@') else { return false };
    let has_dot = domain.rsplit_once('.').is_some_and(|(host, end)| !host.is_empty() && !end.is_empty());
    !name.is_empty() && has_dot && !domain.contains('@') && !text.contains(char::is_whitespace)
}

fn is_out_of_range(point: RawBsonRef<'_>) -> bool {
    let coordinates = value::object(Some(point)).and_then(|point| value::list(value::field(point, "coordinates")));
    let beyond = |number: Option<RawBsonRef<'_>>, limit: f64| {
        let number = number.and_then(|number| match number {
            RawBsonRef::Double(number) => Some(number),
            RawBsonRef::Int32(number) => Some(f64::from(number)),
            _ => None,
        });
        number.is_some_and(|number| number.abs() > limit)
    };
    let Some(coordinates) = coordinates else { return false };
    let mut numbers = coordinates.into_iter().map(Result::ok);
    beyond(numbers.next().flatten(), 180.0) || beyond(numbers.next().flatten(), 90.0)
}

/// The delegations with dates in place of text dates; `None` where nothing changes. The second value is true where a
/// delegation cannot be read.
fn delegations(document: &RawDocument) -> (Option<Vec<Bson>>, bool) {
    let (mut changes, mut unreadable) = (false, false);
    let mut repaired = Vec::new();
    for delegation in value::list(value::field(document, "delegations")).into_iter().flatten().flatten() {
        let Some(mut delegation) = delegation.as_document().and_then(|raw| Document::try_from(raw.to_owned()).ok())
        else {
            return (None, true);
        };
        if let Ok(text) = delegation.get_str(READ_AT) {
            match value::parse_date(text) {
                Some(date) => {
                    delegation.insert(READ_AT, date);
                    changes = true;
                }
                None => unreadable = true,
            }
        }
        repaired.push(Bson::Document(delegation));
    }
    (changes.then_some(repaired), unreadable)
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, RawDocumentBuf, oid::ObjectId};

    use super::super::super::offer_and_job::OwnedJob;
    use super::*;
    use crate::model::ids::JobId;

    const NOW: DateTime = DateTime::from_millis(1_000_000);

    fn sound() -> Document {
        doc! {
            "offer_title": "Été", "apply_email": null, "contract_type": ["Apprentissage"],
            "workplace_siret": "12345678901234", "contract_rythm": "Indifférent",
        }
    }

    fn judged(fields: Document) -> PairVerdict {
        let mut offer = sound();
        offer.extend(fields);
        let offer = RawDocumentBuf::try_from(&offer).unwrap();
        plan(&Pair { id: JobId(ObjectId::new()), offer: &offer, owned_job: None, newest_wins: false }, NOW)
    }

    #[test]
    fn what_is_safe_is_repaired_and_then_stands() {
        assert_eq!(judged(doc! {}), PairVerdict::default());
        for (wrong, right) in RYTHMS {
            let edit = judged(doc! { "contract_rythm": wrong }).edit.unwrap();
            assert_eq!(edit, Edit::both("contract_rythm", "job_rythm", right).moving(NOW));
            assert_eq!(judged(edit.offer), PairVerdict::default());
        }
        let dates = doc! { "delegations": [{ "email": "a", READ_AT: "2026-03-01" }, { READ_AT: null }] };
        let edit = judged(dates).edit.unwrap();
        let date = DateTime::parse_rfc3339_str("2026-03-01T00:00:00Z").unwrap();
        let expected = doc! { "delegations": [{ "email": "a", READ_AT: date }, { READ_AT: null }] };
        assert_eq!(edit.offer, expected);
        assert_eq!(judged(edit.offer), PairVerdict::default());
    }

    #[test]
    fn what_is_not_safe_is_told_by_field_and_never_changed() {
        let point = |longitude: f64| doc! { "type": "Point", "coordinates": [longitude, 48.0] };
        for (field, value) in [
            ("offer_title", Bson::from("Éé")),
            ("offer_title", Bson::Null),
            ("apply_email", "nobody@nowhere".into()),
            ("apply_email", "no body@example.com".into()),
            ("workplace_geopoint", point(-180.1).into()),
            ("contract_type", vec!["CDI"].into()),
            ("contract_type", "Apprentissage".into()),
            ("workplace_siret", "1234567890123".into()),
            ("delegations", vec![Bson::from(doc! { READ_AT: "yesterday" })].into()),
        ] {
            let verdict = judged(doc! { field: value.clone() });
            assert_eq!(verdict.edit, None, "{field}");
            assert_eq!(verdict.lines[0].fields, [field], "{value}");
            assert_eq!(verdict.skipped, Some("no_safe_repair"));
        }
        assert_eq!(judged(doc! { "workplace_geopoint": point(180.0) }), PairVerdict::default());
    }

    #[test]
    fn the_job_keeps_its_own_addresses() {
        let offer =
            RawDocumentBuf::try_from(&doc! { "delegations": [{ "email": "anonymised", READ_AT: "2026-03-01" }] });
        let job = RawDocumentBuf::try_from(&doc! { "delegations": [{ "email": "own", READ_AT: "2026-03-01" }] });
        let (offer, job, recruiter) = (offer.unwrap(), job.unwrap(), RawDocumentBuf::new());
        let owned_job = Some(OwnedJob { recruiter: &recruiter, job: &job });
        let edit =
            plan(&Pair { id: JobId(ObjectId::new()), offer: &offer, owned_job, newest_wins: false }, NOW).edit.unwrap();
        let email = |fields: &Document| {
            let list = fields.get_array("delegations").unwrap();
            list[0].as_document().unwrap().get_str("email").unwrap().to_owned()
        };
        assert_eq!((email(&edit.offer), email(&edit.job)), ("anonymised".to_owned(), "own".to_owned()));
    }
}
