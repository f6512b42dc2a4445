//! The command `replay`, which touches everything that changed in a span of the past. The leader carries the command
//! out, or this process when there is no leader ([`crate::service::submit`]). A dry run always happens in this process
//! and shows, offer by offer, the fields that would get another value, with the contact of people masked.

use std::collections::BTreeMap;

use bson::{Bson, DateTime, Document, Timestamp, doc};
use chrono_tz::Tz;
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::position::PositionName;
use super::replay_find;
use super::replay_span::{BESIDE_BAR, closed_elsewhere_text, show, undeliverable_text, unread};
use super::time::TimeName;
use crate::apply::dry_run::{DryRun, DryRunOffers, Rewritten};
use crate::apply::executor::Apply;
use crate::apply::output::Output;
use crate::apply::stages::Stages;
use crate::cli::arguments::ReplayArguments;
use crate::context::Context;
use crate::counted::counted;
use crate::error::Failure;
use crate::json_output::JsonForm;
use crate::maintenance::replay::{self, part_applied, time_text, watched};
use crate::maintenance::span::{bounded, exchanged};
use crate::maintenance::stored_commands::{Command, CommandOutcome, Span, count};
use crate::model::ids::JobId;
use crate::model::names::{OFFERS, WatchedCollection};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::phase::{Phase, state};
use crate::progress::bar;
use crate::refusal::{Exit, Refusal};
use crate::service::submit::submit;
use crate::shown_time::shown_position;
use crate::source::cursor::operation_time;
use crate::source::replay::Replay;
use crate::tasks::{Group, Task};

/// The flags with the bounds of the span.
const FLAGS: [&str; 2] = ["--from", "--until"];
/// The most offers in the text output of a dry run; `--json` has all.
const SHOWN: usize = 40;
/// The most characters of a value in the text output.
const LONGEST_VALUE: usize = 60;
/// Fields that can have the contact of a person or a text that a person wrote. Their values are masked.
const PERSONAL: [&str; 8] = [
    "apply_email",
    "apply_phone",
    "apply_url",
    "cfa_apply_email",
    "cfa_apply_phone",
    "delegations",
    "offer_description",
    "workplace_description",
];

/// Runs the command and prints its result on standard output.
///
/// # Errors
/// A [`Refusal`] when the span cannot be replayed, when the phase does not allow a replay, or when the database fails
/// for good.
pub async fn replay(context: Context, arguments: ReplayArguments) -> Result<Exit, Refusal> {
    let phase = state::load(&context.database, context.settings.phase.initial).await?.phase;
    let span = span(&context, &arguments, phase).await?;
    if arguments.find {
        replay_find::find(&context, &span, phase, arguments.json).await
    } else if arguments.dry_run {
        run_dry(&context, &span, phase, arguments.json).await
    } else {
        carry_out(&context, span, arguments.json).await
    }
}

/// Checks the bounds of the span against each other, where that needs no server.
///
/// # Errors
/// A [`Refusal`] when `--until` is before `--from`.
pub(super) fn check(arguments: &ReplayArguments) -> Result<(), Refusal> {
    let from = match &arguments.from {
        PositionName::Id(_) => None,
        PositionName::Time(time) => Some(*time),
        PositionName::Content(position) => {
            let milliseconds = i64::from(position.time().time) * 1_000;
            Some(TimeName::At(DateTime::from_millis(milliseconds)))
        }
    };
    let is_exchanged = arguments.until.zip(from).is_some_and(|(until, from)| until.is_surely_before(from));
    if is_exchanged { Err(exchanged(FLAGS)) } else { Ok(()) }
}

/// The span that the arguments name, with its bounds moved into the oplog. A [`Refusal`] when the span cannot be
/// replayed.
async fn span(context: &Context, arguments: &ReplayArguments, phase: Phase) -> Result<Span, Refusal> {
    let refuse = |message: String| Err(Refusal::new(Exit::Usage, message));
    let collection = arguments.collection.map(WatchedCollection::name);
    if watched(phase, collection).is_empty() {
        let names: Vec<&str> = watched(phase, None).iter().map(|collection| collection.name()).collect();
        let asked = collection.unwrap_or_default();
        return refuse(format!(
            "--collection {asked}: this phase does not read it; choose one of {}",
            names.join(", ")
        ));
    }
    let from = arguments.from.find(context).await?.time();
    let until = match arguments.until {
        // The last second of the span belongs to it in full.
        Some(name) => Some(Timestamp { increment: u32::MAX, ..name.position(context).await? }),
        None => None,
    };
    bounded(context, Span { from, until, collection: collection.map(str::to_owned) }, FLAGS).await
}

async fn carry_out(context: &Context, span: Span, as_json: bool) -> Result<Exit, Refusal> {
    let from = span.from;
    let bar = bar(0, BESIDE_BAR);
    let command = Command::Replay(span);
    let outcome = submit(context, &command, |stored| {
        show(&bar, from, replay::reached(stored, from), replay::until(stored).unwrap_or(from));
    })
    .await;
    bar.finish_and_clear();
    match outcome? {
        CommandOutcome { done: true, details } => {
            print(&details, as_json);
            Ok(Exit::Done)
        }
        refused => Err(refused.refusal()),
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print(details: &Document, as_json: bool) {
    let of = |field: &str| count(details, field);
    let (events, recruiters, created, changed) = (of("events"), of("recruiters"), of("created"), of("changed"));
    let undeliverable = of(replay::UNDELIVERABLE);
    let resync = details.get_bool(replay::RESYNC).unwrap_or_default();
    if as_json {
        let unchanged = of("unchanged");
        JsonForm::Replay.print(json!({
            "events": events, "recruiters": recruiters, "created": created, "changed": changed,
            "unchanged": unchanged, "undeliverable": undeliverable, "resync": resync,
        }));
        return;
    }
    println!(
        "{}, {} projected: {} created, {changed} changed, {} unchanged",
        counted(events, "event", "events"),
        counted(recruiters, "recruiter", "recruiters"),
        counted(created, "offer", "offers"),
        of("unchanged")
    );
    if undeliverable > 0 {
        println!("{}", undeliverable_text(undeliverable));
    }
    if resync {
        println!("the events did not show every change: a resync projected every recruiter");
    }
}

/// Shows the offers that would be written, and writes nothing.
async fn run_dry(context: &Context, span: &Span, phase: Phase, as_json: bool) -> Result<Exit, Refusal> {
    if !phase.writes_offers() {
        let message =
            format!("refused: in phase {} jobs_partners is the authority: a replay writes no offer", phase.word());
        return Err(Refusal::new(Exit::Findings, message));
    }
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, crate::tasks::signals(group.stop.clone()));
    // A dry run writes nothing, so it needs no lease and runs beside an instance.
    let results = DryRun { offers: Some(DryRunOffers::default()), ..DryRun::default() };
    let stages = Stages::new(context, phase, Output::DryRun(Box::new(results))).await?;
    let mut apply = Apply::new(stages);
    let now = operation_time(&context.database).await?;
    let until = span.until.unwrap_or(now);
    let bar = bar(0, BESIDE_BAR);
    let watched = watched(phase, span.collection.as_deref());
    let mut source = Replay::open(&context.database, watched, span.from, until);
    let mut shown = DryRunResult::of(span.from, until);
    loop {
        if group.stop.is_cancelled() {
            bar.finish_and_clear();
            return Ok(Exit::Interrupted);
        }
        // A short wait, so that Ctrl-C is noticed while the server searches the oplog.
        let part = source.next(std::time::Duration::from_millis(200)).await;
        let Some(part) = part.map_err(|failure| unread(span.from, failure))? else { continue };
        let touched = Box::pin(part_applied(&part, &mut apply)).await?;
        shown.events += part.events.len() as u64;
        shown.undeliverable += part.passed_over;
        shown.everything |= touched.everything;
        show(&bar, span.from, part.reached, until);
        if part.ended {
            break;
        }
    }
    bar.finish_and_clear();
    let dry_run = apply.stages.output.into_dry_run();
    shown.add(context, dry_run).await?;
    shown.print(as_json, context.time_zone);
    Ok(Exit::Done)
}

/// The result of a dry run.
struct DryRunResult {
    from: Timestamp,
    until: Timestamp,
    events: u64,
    undeliverable: u64,
    /// True when the events do not tell everything that changed, so that a replay would touch every recruiter.
    everything: bool,
    /// Offers that were projected.
    looked_at: usize,
    /// Offers that somebody else closed, and whose closing would stand.
    closed_elsewhere: usize,
    dead_letters: BTreeMap<&'static str, u64>,
    fields: BTreeMap<String, u64>,
    /// Offers that would be written. The document has the present values of the fields that would change.
    offers: Vec<(JobId, Rewritten, Document)>,
}

/// The numbers of offers that would be created, would change, and stay as they are.
struct OfferCounts {
    created: usize,
    changed: usize,
    unchanged: usize,
}

impl DryRunResult {
    fn of(from: Timestamp, until: Timestamp) -> Self {
        Self {
            from,
            until,
            events: 0,
            undeliverable: 0,
            everything: false,
            looked_at: 0,
            closed_elsewhere: 0,
            dead_letters: BTreeMap::new(),
            fields: BTreeMap::new(),
            offers: Vec::new(),
        }
    }

    async fn add(&mut self, context: &Context, dry_run: DryRun) -> Result<(), Failure> {
        let DryRunOffers { looked_at, written, dead_letters } = dry_run.offers.unwrap_or_default();
        (self.looked_at, self.closed_elsewhere) = (looked_at.len(), dry_run.closed_elsewhere.len());
        for reason in dead_letters.into_values() {
            *self.dead_letters.entry(reason.as_str()).or_default() += 1;
        }
        let all: Vec<(JobId, Rewritten)> = written.into_iter().collect();
        for some in all.chunks(crate::fetch::IDS_PER_READ) {
            let ids: Vec<JobId> = some.iter().map(|(id, _)| *id).collect();
            let standing =
                with_deadline(collection(&context.database, OFFERS).find(doc! { "_id": { "$in": ids } })).await;
            let standing: Vec<Document> =
                with_deadline(standing.map_err(Failure::Read)?.try_collect()).await.map_err(Failure::Read)?;
            let mut by_id: BTreeMap<JobId, Document> = standing
                .into_iter()
                .filter_map(|offer| Some((JobId(offer.get_object_id("_id").ok()?), offer)))
                .collect();
            for (id, rewritten) in some {
                for field in rewritten.fields.keys().filter(|_| !rewritten.created) {
                    *self.fields.entry(field.clone()).or_default() += 1;
                }
                let stands = by_id.remove(id).unwrap_or_default();
                let stands = stands.into_iter().filter(|(name, _)| rewritten.fields.contains_key(name)).collect();
                self.offers.push((*id, rewritten.clone(), stands));
            }
        }
        Ok(())
    }

    fn counts(&self) -> OfferCounts {
        let created = self.offers.iter().filter(|(_, offer, _)| offer.created).count();
        let (changed, unchanged) = (self.offers.len() - created, self.looked_at - self.offers.len());
        OfferCounts { created, changed, unchanged }
    }

    #[expect(clippy::print_stdout, reason = "the output of the command")]
    fn print(&self, as_json: bool, zone: Tz) {
        if as_json { JsonForm::ReplayDryRun.print(self.as_value()) } else { println!("{}", self.as_text(zone)) }
    }

    fn as_value(&self) -> Value {
        let OfferCounts { created, changed, unchanged } = self.counts();
        // A field that is missing in the offer has no `stands`: null would be a value.
        let field = |name: &String, stands: &Document, becomes: &Bson| {
            let stands = stands.get(name).map(|value| ("stands".to_owned(), masked(name, value)));
            let becomes = ("becomes".to_owned(), masked(name, becomes));
            let values: serde_json::Map<String, Value> = stands.into_iter().chain([becomes]).collect();
            (name.clone(), Value::from(values))
        };
        let offer = |(id, rewritten, stands): &(JobId, Rewritten, Document)| {
            let fields: serde_json::Map<String, Value> =
                rewritten.fields.iter().map(|(name, value)| field(name, stands, value)).collect();
            json!({ "id": id.to_string(), "created": rewritten.created, "fields": fields })
        };
        json!({
            "dry_run": true, "from": time_text(self.from), "until": time_text(self.until),
            "events": self.events, "created": created, "changed": changed, "unchanged": unchanged,
            "undeliverable": self.undeliverable, "fields": self.fields, "dead_letters": self.dead_letters, "needs_backfill": self.everything,
            "closed_elsewhere": self.closed_elsewhere,
            "offers": self.offers.iter().map(offer).collect::<Vec<Value>>(),
        })
    }

    fn as_text(&self, zone: Tz) -> String {
        let OfferCounts { created, changed, unchanged } = self.counts();
        let mut lines = vec![format!(
            "dry run, {} to {}: {}; {} would be created, {changed} changed, {unchanged} unchanged",
            shown_position(self.from, zone),
            shown_position(self.until, zone),
            counted(self.events, "event", "events"),
            counted(created, "offer", "offers")
        )];
        lines.extend(self.fields.iter().map(|(field, count)| format!("  {field}: {count}")));
        lines.extend(self.dead_letters.iter().map(|(reason, count)| format!("  dead letters, {reason}: {count}")));
        if self.closed_elsewhere > 0 {
            lines.push(format!("  {}", closed_elsewhere_text(self.closed_elsewhere)));
        }
        if self.undeliverable > 0 {
            lines.push(undeliverable_text(self.undeliverable));
        }
        if self.everything {
            lines.push("these events do not show every change: a replay also runs a resync;".into());
            lines.push("`backfill --dry-run` counts what the resync would write".into());
        }
        // Changed offers come first: a created offer has no fields to show.
        let (created, changed): (Vec<_>, Vec<_>) = self.offers.iter().partition(|(_, offer, _)| offer.created);
        for (id, rewritten, stands) in changed.into_iter().chain(created).take(SHOWN) {
            lines.push(format!("{id}{}", if rewritten.created { "  would be created" } else { "" }));
            let fields = rewritten.fields.iter().filter(|_| !rewritten.created);
            lines.extend(fields.map(|(name, becomes)| {
                let stands = stands.get(name).map_or_else(|| "(missing)".to_owned(), |value| short(name, value));
                format!("  {name}: {stands} -> {}", short(name, becomes))
            }));
        }
        if self.offers.len() > SHOWN {
            lines.push(format!("… and {} more; --json shows all", self.offers.len() - SHOWN));
        }
        lines.join("\n")
    }
}

/// The value as JSON; `***` for a value of a field in [`PERSONAL`].
fn masked(field: &str, value: &Bson) -> Value {
    match value {
        Bson::Null => Value::Null,
        _ if PERSONAL.contains(&field) => "***".into(),
        Bson::DateTime(date) => date.try_to_rfc3339_string().map_or(Value::Null, Value::from),
        value => value.clone().into_relaxed_extjson(),
    }
}

fn short(field: &str, value: &Bson) -> String {
    let text = masked(field, value).to_string();
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
