//! Verification (spec 06): recruiters are projected with the code of the pipeline, and compared with the offers.

mod chunk;
pub(crate) mod compare;
mod compare_jobs;
mod compare_offers;
mod compare_recruiters;
pub(crate) mod compare_sides;
pub(crate) mod continuous;
mod held_jobs;
mod job_owners;
mod loss_scan;
mod losses;
mod mirror_rules;
pub(crate) mod only_in_recruiters;
pub(crate) mod recheck;
pub(crate) mod report;
pub(crate) mod scan;
pub mod stored;
mod texts_without_offer;

use std::sync::Arc;

use bson::{DateTime, doc};
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use self::compare_sides::Comparer;
use self::held_jobs::HeldJobs;
use self::loss_scan::LossScan;
use self::mirror_rules::MirrorRules;
use self::only_in_recruiters::OnlyInRecruiters;
use self::recheck::{Behind, Rechecker, Side};
use self::report::VerificationReport;
use self::scan::Scan;
use crate::context::Context;
use crate::error::Failure;
use crate::model::ids::RecruiterId;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;
use crate::observe::health::Role;
use crate::phase::{Phase, StreamWrites};
use crate::write::Writer;
use crate::write::recorder::note_at_once;

/// A full verification by the rules of `to`, before a step from phase `from`. Its result is not stored.
///
/// # Errors
/// A [`Failure`] that a retry does not cure.
pub(crate) async fn compare_as_in(context: &Context, from: Phase, to: Phase) -> Result<VerificationReport, Failure> {
    let mut scan = scan(context, to, true, CancellationToken::new()).await?;
    scan.rechecker.comparer.mirror = MirrorRules::of(context, from, to);
    scan.everything().await?;
    Ok(scan.report)
}

/// The number of documents that a full verification counts on its bar: those of all sides.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn length(context: &Context) -> Result<u64, Failure> {
    let mut length = 0;
    for side in Side::ALL {
        let filter = scan::all(side, &context.settings.target.partner_label);
        let documents = collection(&context.database, side.collection());
        length += documents.count_documents(filter).await.map_err(Failure::Read)?;
    }
    Ok(length)
}

/// A full verification, and the count of what exists in `recruiters` alone. Its result is stored if `is_stored` is true
/// and `stop` did not end it early. `bar` shows how far it is, in steps of [`length`].
///
/// # Errors
/// As [`compare_as_in`].
pub(crate) async fn full(
    context: &Context,
    phase: Phase,
    stop: CancellationToken,
    is_stored: bool,
    bar: &ProgressBar,
) -> Result<VerificationReport, Failure> {
    let mut scan = scan(context, phase, true, stop.clone()).await?;
    scan.bar = bar.clone();
    let losses = LossScan::prepare(context, &stop).await?;
    scan.rechecker.comparer.losses = Some(Arc::clone(&losses.finder));
    scan.losses = Some(losses);
    scan.everything().await?;
    scan.report.only_in_recruiters = scan.losses.take().map(LossScan::end);
    scan.report.ended = server_time(&context.database).await?;
    if is_stored && !stop.is_cancelled() {
        stored::store(&context.database, &scan.report).await?;
        note_at_once(&Writer::free(&context.database), stored::event(&scan.report)).await;
    }
    Ok(scan.report)
}

/// The count of what exists in `recruiters` alone, without a verification.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn only_in_recruiters(
    context: &Context,
    stop: &CancellationToken,
) -> Result<OnlyInRecruiters, Failure> {
    loss_scan::look(context, stop).await
}

/// A verification of `count` recruiters, chosen at random. Its result is not stored.
///
/// # Errors
/// As [`compare_as_in`].
pub(crate) async fn sample(
    context: &Context,
    phase: Phase,
    stop: CancellationToken,
    count: u32,
) -> Result<VerificationReport, Failure> {
    let mut scan = scan(context, phase, false, stop).await?;
    scan.sample(count).await?;
    scan.report.ended = server_time(&context.database).await?;
    Ok(scan.report)
}

/// The part of a verification that compares not everything.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// One recruiter.
    Recruiter(RecruiterId),
    /// The recruiters and offers that changed since this time, by their own dates.
    Since(DateTime),
}

/// A verification of a part. Its result is not stored.
///
/// # Errors
/// As [`compare_as_in`].
pub(crate) async fn part(
    context: &Context,
    phase: Phase,
    stop: CancellationToken,
    part: Part,
) -> Result<VerificationReport, Failure> {
    let mut scan = scan(context, phase, false, stop).await?;
    match part {
        Part::Recruiter(id) => {
            for side in [Side::Recruiters, Side::Anonymized] {
                scan.side(side, &doc! { "_id": id }).await?;
            }
        }
        Part::Since(time) => scan.since(time).await?,
    }
    scan.report.ended = server_time(&context.database).await?;
    Ok(scan.report)
}

async fn scan(context: &Context, phase: Phase, full: bool, stop: CancellationToken) -> Result<Scan, Failure> {
    let leads = context.health.role() == Role::Leader;
    let except = (!leads).then(|| context.deployment.instance.clone());
    Ok(Scan {
        rechecker: rechecker(context, phase, Behind::Instance { except }, stop).await?,
        partner_label: context.settings.target.partner_label.clone(),
        report: VerificationReport::new(server_time(&context.database).await?, phase.word().to_owned(), full),
        held: HeldJobs::default(),
        losses: None,
        bar: ProgressBar::hidden(),
    })
}

/// A rechecker by the rules of `phase`. It waits for the instance that `behind` names.
async fn rechecker(
    context: &Context,
    phase: Phase,
    behind: Behind,
    stop: CancellationToken,
) -> Result<Rechecker, Failure> {
    let newest_wins = phase.stream() == StreamWrites::UnlessNewer;
    let comparer = Comparer::new(context, newest_wins, MirrorRules::of(context, phase, phase)).await?;
    Ok(Rechecker { comparer, database: context.database.clone(), behind, stop })
}
