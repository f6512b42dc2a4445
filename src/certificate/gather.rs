//! Reads the parts of a certificate from the database. It walks both sides as a full verification does, in constant
//! memory, and writes nothing.

use std::collections::BTreeMap;

use bson::{DateTime, Document, Timestamp, doc};
use futures::TryStreamExt as _;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::document::{
    Certificate, Gap, Gaps, Identity, PhaseSection, Position, Present, SCHEMA, ServiceVersion, Step, Verdict,
    VerificationSection,
};
use super::verdict;
use crate::context::Context;
use crate::error::Failure;
use crate::leader::{checkpoint_origin, lead};
use crate::model::names::GAPS;
use crate::model::names::gap_state::REPAIRED;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;
use crate::phase::late_writes::LateWrites;
use crate::phase::state::{self, RecordedStep};
use crate::phase::stored_verification::StoredVerification;
use crate::project::digest::Digest;
use crate::source::cursor::operation_time;
use crate::verify;
use crate::version;
use crate::write::stored_dead_letter::count_by_reason;

/// Makes a certificate of the database as it is now. One that `stop` ends early is of a part only.
///
/// # Errors
/// A [`Failure`] that a retry does not cure.
pub(crate) async fn make(context: &Context, stop: &CancellationToken) -> Result<Certificate, Failure> {
    let database = &context.database;
    let from = operation_time(database).await?;
    let current = state::load(database, context.settings.phase.initial).await?;
    let report = verify::full(context, current.phase, stop.clone(), false, &ProgressBar::hidden()).await?;
    let history = state::history(database).await?;
    let verification = with_deadline(StoredVerification::read_before_retired(database)).await.map_err(Failure::Read)?;
    let mine = checkpoint_origin::current(database).await?;
    let alone = report
        .only_in_recruiters
        .as_ref()
        .map(|alone| alone.counts().map(|(kind, count)| (kind.as_str().to_owned(), count)).collect::<BTreeMap<_, _>>());
    // A position that cannot be read from here counts as none.
    let checkpoint = with_deadline(lead::store(context).load()).await.ok().flatten();
    let mut certificate = Certificate {
        schema: SCHEMA.to_owned(),
        identity: Identity {
            replica_set: mine.set,
            database: mine.database,
            history: mine.collection,
            partner_label: context.settings.target.partner_label.clone(),
        },
        service: ServiceVersion { version: version::VERSION.to_owned(), commit: version::COMMIT.to_owned() },
        phase: PhaseSection {
            name: current.phase.word().to_owned(),
            since: current.since.map(text),
            steps: current.revision,
            contradicted_by_tombstone: current.contradicted,
            history: history.into_iter().map(step).collect(),
        },
        verification: verification.map(verification_section),
        gaps: gaps(context).await?,
        dead_letters: count_by_reason(database).await?,
        only_in_recruiters: alone.unwrap_or_default(),
        late_writes: LateWrites::read(database, &current).await?.map(|late| late.report()),
        position: checkpoint.map(|checkpoint| Position {
            time: checkpoint.cluster_time.time,
            increment: checkpoint.cluster_time.increment,
            events: checkpoint.events,
        }),
        present: Present {
            from: time_text(from),
            to: time_text(operation_time(database).await?),
            differences: report.differences,
            unsettled: report.unsettled,
            sides: report.sides,
        },
        made_at: text(server_time(database).await?),
        verdict: Verdict::default(),
        digest: Digest::default(),
    };
    certificate.verdict = verdict::judge(&certificate);
    certificate.digest = certificate.own_digest();
    Ok(certificate)
}

fn step(step: RecordedStep) -> Step {
    let RecordedStep { at, who, from, to, reason, overridden } = step;
    Step { at: at.map(text), who, from, to, reason: reason.map(|reason| without_addresses(&reason)), overridden }
}

/// The text of an operator without what may be the e-mail address of a person.
fn without_addresses(reason: &str) -> String {
    let shown = |word| if str::contains(word, '@') { "(an address)" } else { word };
    reason.split(' ').map(shown).collect::<Vec<_>>().join(" ")
}

fn verification_section(stored: StoredVerification) -> VerificationSection {
    VerificationSection {
        phase: stored.phase,
        began: stored.began.map(text),
        ended: stored.ended.map(text),
        differences: stored.differences,
        unsettled: stored.unsettled,
        only_in_recruiters: stored.only_in_recruiters.map(|counts| counts.into_iter().collect()),
        sides: stored.sides,
    }
}

/// The numbers of gaps, and the newest ones.
async fn gaps(context: &Context) -> Result<Gaps, Failure> {
    let gaps = collection(&context.database, GAPS);
    let count = async |filter: Document| with_deadline(gaps.count_documents(filter)).await.map_err(Failure::Read);
    let (total, open) = (count(doc! {}).await?, count(doc! { "state": { "$ne": REPAIRED } }).await?);
    let find = gaps.find(doc! {}).sort(doc! { "from": -1, "_id": -1 }).limit(Gaps::LISTED);
    let stored = with_deadline(find).await.map_err(Failure::Read)?;
    let stored: Vec<Document> = with_deadline(stored.try_collect()).await.map_err(Failure::Read)?;
    let gap = |stored: &Document| {
        let time = |field: &str| stored.get_timestamp(field).map(time_text).unwrap_or_default();
        let date = |field: &str| stored.get_datetime(field).ok().copied().map(text);
        let word = |field: &str| stored.get_str(field).unwrap_or_default().to_owned();
        Gap {
            from: time("from"),
            to: time("to"),
            cause: word("cause"),
            state: word("state"),
            opened_at: date("opened_at"),
            repaired_at: date("repaired_at"),
        }
    };
    Ok(Gaps { total, open, last: stored.iter().map(gap).collect() })
}

fn time_text(time: Timestamp) -> String {
    format!("{}-{}", time.time, time.increment)
}

fn text(date: DateTime) -> String {
    date.try_to_rfc3339_string().unwrap_or_default()
}
