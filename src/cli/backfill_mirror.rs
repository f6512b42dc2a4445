//! The command `backfill --mirror`, which touches our offers so that `recruiters` has what they say. A dry run happens in
//! this process and only counts.

use std::io::IsTerminal as _;

use bson::{Document, doc};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::counted::counted;
use crate::error::Failure;
use crate::json_output::JsonForm;
use crate::maintenance::backfill_mirror::run_dry;
use crate::maintenance::stored_commands::{Command, CommandOutcome, count};
use crate::model::names::OFFERS;
use crate::mongo::reads::collection;
use crate::phase::state;
use crate::progress::bar;
use crate::refusal::{Exit, Refusal};
use crate::service::submit::submit;
use crate::tasks::{Group, Task, signals};

/// Runs the command and prints its result on standard output.
///
/// # Errors
/// A [`Refusal`] when the mirror is off, or the database fails for good.
pub(super) async fn run(context: &Context, dry_run: bool, json: bool) -> Result<Exit, Refusal> {
    let bar = shown_bar(context).await?;
    if dry_run {
        return dry(context, json, &bar).await;
    }
    let show = |progress: &Document| bar.set_position(count(progress, "offers"));
    let outcome = submit(context, &Command::BackfillMirror, |stored| show(&stored.progress)).await;
    bar.finish_and_clear();
    match outcome? {
        CommandOutcome { done: true, details } => {
            let dead = count(&details, "dead_letters");
            let form = json.then_some(JsonForm::BackfillMirror);
            print(
                &details,
                form,
                json!({ "dead_letters": dead }),
                &format!("; {}", counted(dead, "dead letter", "dead letters")),
            );
            Ok(Exit::Done)
        }
        refused => Err(refused.refusal()),
    }
}

async fn dry(context: &Context, as_json: bool, bar: &ProgressBar) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let current = state::load(&context.database, context.settings.phase.initial).await?;
    let counted = run_dry(context, current.phase, &group.stop, |offers| bar.set_position(offers)).await?;
    bar.finish_and_clear();
    let (counts, dry_run) = counted.map_err(|reason| Refusal::new(Exit::Findings, reason))?;
    if group.stop.is_cancelled() {
        return Ok(Exit::Interrupted);
    }
    let dead: serde_json::Map<String, Value> =
        dry_run.dead_letters.iter().map(|(reason, count)| (reason.as_str().to_owned(), json!(count))).collect();
    let lines: String = dead.iter().map(|(reason, count)| format!("\n  dead letters, {reason}: {count}")).collect();
    let form = as_json.then_some(JsonForm::BackfillMirrorDryRun);
    print(&counts, form, json!({ "dry_run": true, "dead_letters": dead }), &format!(" (dry run){lines}"));
    Ok(Exit::Done)
}

/// A progress bar with rate and time left; hidden outside a terminal.
async fn shown_bar(context: &Context) -> Result<ProgressBar, Failure> {
    // Nobody needs the count where nobody sees the bar.
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let ours = doc! { "partner_label": &context.settings.target.partner_label };
    let total = collection(&context.database, OFFERS).count_documents(ours).await.map_err(Failure::Read)?;
    Ok(bar(total, "{pos}/{len} offers, {per_sec}, {eta} left"))
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print(counts: &Document, form: Option<JsonForm>, more: Value, end: &str) {
    let [offers, edited, with_new_jobs, made] =
        ["offers", "recruiters_edited", "recruiters_with_new_jobs", "recruiters_made"].map(|name| count(counts, name));
    if let Some(form) = form {
        let mut result = json!({
            "offers": offers, "recruiters_edited": edited, "recruiters_with_new_jobs": with_new_jobs,
            "recruiters_made": made,
        });
        if let (Some(result), Value::Object(more)) = (result.as_object_mut(), more) {
            result.extend(more);
        }
        form.print(result);
    } else {
        println!(
            "{}: {} edited, {with_new_jobs} with new jobs, {made} made{end}",
            counted(offers, "offer", "offers"),
            counted(edited, "recruiter", "recruiters")
        )
    }
}
