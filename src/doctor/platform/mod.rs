//! `doctor --against-platform`: the rehearsal on the platform's database before the first `run` (spec 09, "The
//! rehearsal"). It reads everything that page 09 is about, writes nothing, and says what to do about each finding.

mod first_run;
mod indexes;
mod offers;
mod old_jobs;
pub(crate) mod schema;
mod text;

use serde_json::{Map, Value, json};

use super::Check;
use crate::context::Context;
use crate::error::Failure;
use crate::service::label_guard;

/// One part of the rehearsal: its checks, and the same facts as JSON.
struct Part {
    /// The name in the JSON output.
    name: &'static str,
    checks: Vec<Check>,
    facts: Value,
}

/// All parts of the rehearsal. The JSON object has one field for each part, null where the part could not be read.
pub(super) async fn examine(context: &Context) -> (Vec<Check>, Value) {
    let mut parts = vec![told("labels", labels(context).await)];
    let offers = offers::read(context).await;
    let last_expiry = offers.as_ref().ok().and_then(offers::Offers::last_expiry);
    parts.extend(match offers {
        Ok(offers) => offers.parts(),
        Err(failure) => vec![told("offers", Err(failure))],
    });
    parts.push(told("schema", schema::part(context).await));
    parts.push(told("indexes", indexes::part(context).await));
    parts.push(told("old_jobs", old_jobs::part(context, last_expiry).await));
    parts.push(told("first_run", Box::pin(first_run::part(context)).await));
    let mut facts = Map::new();
    let mut checks = Vec::new();
    for part in parts {
        facts.insert(part.name.to_owned(), part.facts);
        checks.extend(part.checks);
    }
    (checks, Value::Object(facts))
}

/// The part, or a check that says why it could not be read.
fn told(name: &'static str, part: Result<Part, Failure>) -> Part {
    part.unwrap_or_else(|failure| Part { name, checks: vec![Check::unknown(name, &failure)], facts: Value::Null })
}

/// The labels under which the offers of a sample of our jobs stand, beside the configured one.
async fn labels(context: &Context) -> Result<Part, Failure> {
    let configured = context.settings.target.partner_label.as_str();
    let labels = label_guard::sample(&context.database).await?;
    let found = labels.iter().map(|(label, count)| format!("{count} under {:?}", text::plain(label)));
    let found: Vec<String> = found.collect();
    let check = if found.is_empty() {
        Check::ok("labels", format!("no job of the sample has an offer; {configured:?} is configured"))
    } else {
        let found = format!("offers of sampled jobs: {}; {configured:?} is configured", found.join(", "));
        if labels.keys().all(|label| label == configured) {
            Check::ok("labels", found)
        } else {
            let remedy = "set target.partner_label to the label of most of them; the others become dead letters \
                          (other_label)";
            Check::warning("labels", found, remedy)
        }
    };
    let sampled: Map<String, Value> =
        labels.iter().map(|(label, count)| (text::plain(label).to_owned(), json!(count))).collect();
    let facts = json!({ "configured": configured, "sampled": sampled });
    Ok(Part { name: "labels", checks: vec![check], facts })
}
