//! The validator of `jobs_partners` as it is now: its action and level, and what the service leaves out because of it
//! (spec 09, "The target's schema decides").

use serde_json::json;

use super::super::Check;
use super::Part;
use crate::context::Context;
use crate::error::Failure;
use crate::model::OfferStatus;
use crate::model::names::OFFERS;
use crate::target;

pub(super) async fn part(context: &Context) -> Result<Part, Failure> {
    context.target.refresh(&context.database).await?;
    let (schema, validator) = (context.target.schema(), target::validator(&context.database).await?);
    let (omitted, managed_by) = (schema.omitted(), schema.managed_by().name());
    let waiting = schema.status(OfferStatus::Pending).as_str();
    let facts = json!({
        "has_validator": !validator.rules.is_empty(), "validation_action": validator.action,
        "validation_level": validator.level, "omitted_fields": omitted, "managed_by": managed_by,
        "status_of_waiting_jobs": waiting,
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
    Ok(Part { name: "schema", checks: vec![check], facts })
}
