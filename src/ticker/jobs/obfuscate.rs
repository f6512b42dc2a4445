//! The command `obfuscate` (4.11): replaces personal values in our offers by fake ones, on a copy of the live data. In
//! production, both the process that gives the command and the leader that carries it out refuse it.

use bson::{Bson, Document, RawBsonRef};

use super::super::offer_and_job::{Edit, Pair, PairFields, PairVerdict};
use crate::config::{Environment, Settings};
use crate::context::Context;
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::value;
use crate::ticker::job_context::JobContext;
use crate::ticker::production_marker;

const PHONE: &str = "0600000000";
const URL: &str = "https://example.com/postuler";
const TEXT: &str = "Texte fictif.";
const FIELDS: PairFields = PairFields {
    offer: &[
        "apply_email",
        "apply_phone",
        "cfa_apply_email",
        "cfa_apply_phone",
        "apply_url",
        "offer_description",
        "workplace_description",
        "delegations",
    ],
    job: &[],
    recruiter: &[],
};

/// The reason why the command is refused here, a sentence for the operator; `None` where the command is allowed.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn refusal(context: &Context) -> Result<Option<String>, Failure> {
    if let Some(reason) = refusal_by(&context.settings) {
        return Ok(Some(reason));
    }
    let is_live = production_marker::is_marked(&context.database).await?;
    Ok(is_live.then(|| {
        "obfuscate is refused: an instance has led here with `environment = \"production\"` (the document `production` of \
         stream_processor_state)"
            .to_owned()
    }))
}

fn refusal_by(settings: &Settings) -> Option<String> {
    let database = &settings.mongodb.database;
    if settings.environment == Environment::Production {
        return Some("obfuscate is refused where `environment` is `production`".to_owned());
    }
    if !settings.obfuscate.allowed_databases.contains(database) {
        return Some(format!(
            "obfuscate is refused: the database `{database}` is not in `obfuscate.allowed_databases`; add it there only if \
             it holds a copy"
        ));
    }
    None
}

/// Replaces the values in all our offers. The run gives up where [`refusal`] has a reason in this process.
///
/// # Errors
/// As [`JobContext::change_selected`].
pub(crate) async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    if refusal(&job.context).await?.is_some() {
        job.report.gave_up = Some("refused by the configuration of who carries it out".into());
        return Ok(());
    }
    job.change_selected(Document::new(), &FIELDS, &plan).await
}

/// Replaces every value that is not fake yet. A null, missing or empty value stays.
fn plan(pair: &Pair<'_>) -> PairVerdict {
    let mut edit = Edit::default();
    let email = format!("offre-{}@example.com", pair.id);
    for (name, fake) in [
        ("apply_email", email.as_str()),
        ("apply_phone", PHONE),
        ("cfa_apply_email", email.as_str()),
        ("cfa_apply_phone", PHONE),
        ("apply_url", URL),
        ("offer_description", TEXT),
        ("workplace_description", TEXT),
    ] {
        let is_other =
            |value: &RawBsonRef<'_>| !matches!(value.as_str(), Some(text) if text == fake || text.is_empty());
        if pair.field(name).filter(is_other).is_some() {
            edit.offer.insert(name, fake);
        }
    }
    if let Some(delegations) = delegations(pair, &email) {
        edit.offer.insert("delegations", delegations);
    }
    if edit.offer.is_empty() { PairVerdict::default() } else { PairVerdict::edit(edit) }
}

fn delegations(pair: &Pair<'_>, email: &str) -> Option<Vec<Bson>> {
    let mut changes = false;
    let mut fakes = Vec::new();
    for delegation in value::list(pair.field("delegations"))?.into_iter().flatten() {
        let mut delegation: Bson = delegation.try_into().ok()?;
        if let Some(delegation) = delegation.as_document_mut()
            && delegation.get_str("email").is_ok_and(|real| real != email)
        {
            delegation.insert("email", email);
            changes = true;
        }
        fakes.push(delegation);
    }
    changes.then_some(fakes)
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, doc, oid::ObjectId};

    use super::*;
    use crate::model::ids::JobId;

    #[test]
    fn what_is_fake_stays_and_what_is_missing_stays_missing() {
        let id = JobId(ObjectId::new());
        let judged = |offer: &Document| {
            let offer = RawDocumentBuf::try_from(offer).unwrap();
            plan(&Pair { id, offer: &offer, owned_job: None, newest_wins: false }).edit
        };
        let mut offer = doc! {
            "apply_email": "a@b.example", "apply_phone": null, "offer_description": "", "workplace_description": "x",
            "delegations": [{ "email": "c@d.example", "siret_code": "1" }, { "siret_code": "2" }],
        };
        let edit = judged(&offer).unwrap();
        let names: Vec<&str> = edit.names().collect();
        assert_eq!(names, ["apply_email", "workplace_description", "delegations"]);
        offer.extend(edit.offer);
        assert!(!offer.to_string().contains(".example\""), "{offer}");
        assert_eq!(judged(&offer), None);
    }
}
