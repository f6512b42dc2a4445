//! The validator of `jobs_partners` as it is now: its action and level, and what the service leaves out because of it
//! (spec 09, "The target's schema decides").

use bson::{Bson, Document, doc, oid::ObjectId};
use serde_json::json;

use super::super::Check;
use super::Part;
use crate::context::Context;
use crate::error::Failure;
use crate::model::names::OFFERS;
use crate::model::target_schema::Validator;
use crate::model::{OfferStatus, TargetSchema};
use crate::mongo::deadline::while_server_works;
use crate::mongo::reads::collection;
use crate::{setup, target};

pub(super) async fn part(context: &Context) -> Result<Part, Failure> {
    context.target.refresh(&context.database).await?;
    let (schema, validator) = (context.target.schema(), target::validator(&context.database).await?);
    let (omitted, managed_by) = (schema.omitted(), schema.managed_by().name());
    let waiting = schema.status(OfferStatus::Pending).as_str();
    let refused = not_matching(context, &validator, &schema).await?;
    let reduced = with_refused_fields(context, &schema).await?;
    let facts = json!({
        "has_validator": !validator.rules.is_empty(), "validation_action": validator.action,
        "validation_level": validator.level, "omitted_fields": omitted, "managed_by": managed_by,
        "status_of_waiting_jobs": waiting, "refused_offers": refused, "offers_with_omitted_fields": reduced,
    });
    let rules = if validator.rules.is_empty() {
        format!("{OFFERS} has no validator")
    } else {
        format!("validationAction {}, validationLevel {}", validator.action, validator.level)
    };
    let found =
        format!("{rules}; managed_by is written as {managed_by}, and the offer of a job that waits is {waiting}");
    let check = if omitted.is_empty() {
        Check::ok("schema", found)
    } else {
        let remedy = "add these fields to the platform's model of jobs_partners; `stream-processor setup` adds them to the \
                      validator until the next start of the platform's server";
        let found = format!("{found}; the validator does not name {}: offers are written without", omitted.join(", "));
        Check::warning("schema", found, remedy)
    };
    let mut checks = vec![check];
    if reduced > 0 {
        let found = format!(
            "{reduced} of our offers have {}, which the validator refuses: our next change of such an offer removes them, \
             and until then the server refuses the platform's changes of it, closings included",
            schema.removed().join(", ")
        );
        let remedy = "add these fields to the platform's model, or run `stream-processor setup` after each start of the \
                      platform's server, until the model has them";
        checks.push(Check::warning("schema", found, remedy));
    }
    if refused > 0 {
        let found = format!(
            "{refused} of our offers do not match the validator: the server refuses changes that leave them so, which the \
             numbers of the first run below do not show"
        );
        let remedy = "correct these offers, for instance entries of offer_status_history without granted_by; until then \
                      a change that leaves them so is the dead letter refused_by_validation";
        checks.push(Check::warning("schema", found, remedy));
    }
    Ok(Part { name: "schema", checks, facts })
}

/// The number of our offers with a field that the server refuses. Each change of such an offer removes the field.
async fn with_refused_fields(context: &Context, schema: &TargetSchema) -> Result<u64, Failure> {
    let present: Vec<Document> = schema.removed().iter().map(|name| doc! { *name: { "$exists": true } }).collect();
    if present.is_empty() {
        return Ok(0);
    }
    count(context, doc! { "partner_label": &context.settings.target.partner_label, "$or": present }).await
}

/// The number of our offers that do not match a validator that refuses. The schema is read anew.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn refused_offers(context: &Context) -> Result<u64, Failure> {
    context.target.refresh(&context.database).await?;
    not_matching(context, &target::validator(&context.database).await?, &context.target.schema()).await
}

/// The number of our offers that do not match the validator; 0 where it does not refuse. The server refuses a change that
/// leaves such an offer so. Omitted fields and values of another type do not count, because each change removes or
/// converts them.
async fn not_matching(context: &Context, validator: &Validator, schema: &TargetSchema) -> Result<u64, Failure> {
    if !validator.is_strict() {
        return Ok(0);
    }
    let rules = setup::validator::allowing(validator.rules.clone(), schema.omitted());
    let rules = setup::validator::accepting(rules, schema.typed());
    count(context, doc! { "partner_label": &context.settings.target.partner_label, "$nor": [rules] }).await
}

async fn count(context: &Context, filter: Document) -> Result<u64, Failure> {
    let comment = Bson::from(ObjectId::new());
    let offers = collection(&context.database, OFFERS);
    // There is no fixed time limit, because the count goes over all our offers.
    let counting = async { offers.count_documents(filter).comment(comment.clone()).await };
    while_server_works(context.database.client(), &comment, counting).await.map_err(Failure::Read)
}
