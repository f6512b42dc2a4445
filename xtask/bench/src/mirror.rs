//! The scenarios of the mirror (spec 10, "The mirror (phase `shadow`)"): a backlog of edited offers, and a mirror that
//! idles while offers of another partner are written in bulk.

use bson::{DateTime, Document, doc};

use super::cost;
use super::population::{Edit, description};
use super::raw;
use super::report::Sample;
use super::scenarios::{EVENTS, Round};
use super::scene::Run;
use xtask::Failure;

/// Later than every date of the golden documents.
const LATER: i64 = 1_800_000_000_000;

impl Round<'_> {
    /// Goes to `shadow`, mirrors a backlog, and idles. The uniform backlog of the same round must be measured already.
    pub(super) async fn mirror(&mut self) -> Result<(), Failure> {
        let database = &self.scene.database;
        let state = database.collection::<Document>("stream_processor_state");
        let shadow = doc! { "$set": { "phase": "shadow" }, "$inc": { "revision": 1_i64 } };
        state.update_one(doc! { "_id": "phase" }, shadow).await?;
        // The first start in this phase mirrors every offer once.
        let run = self.scene.start().await?;
        self.scene.until_synced(&run).await?;
        self.scene.stop(run).await?;

        let edits = self.population.edits(EVENTS, self.size.shape.recruiters, self.random);
        let statements: Vec<Document> =
            (self.mark + 400_000..).zip(&edits).map(|(mark, edit)| of_offer(edit, mark)).collect();
        raw::send(database, "jobs_partners", statements, 1).await?;
        let until = raw::cluster_time(database).await?;
        let mut run = self.scene.start().await?;
        let measured = self.scene.until_applied(&mut run, until).await?;
        let rate = edits.len() as f64 / measured.spent.wall.as_secs_f64();
        self.figures.add("mirror, backlog", Sample::rate(edits.len(), measured));
        let forward = self.figures.last("uniform backlog").ok_or("there is no uniform backlog to compare with")?;
        self.figures.add("mirror, of uniform", Sample::of(100.0 * rate / forward));
        self.check_job(&edits).await?;
        self.idle(&mut run).await?;
        self.scene.stop(run).await.map(drop)
    }

    /// Writes foreign offers while the mirror has nothing to do.
    async fn idle(&mut self, run: &mut Run) -> Result<(), Failure> {
        // The mirror's own writes come back as events of `recruiters`. They belong to the backlog before.
        let written = raw::cluster_time(&self.scene.database).await?;
        self.scene.until_applied(run, written).await?;
        let pid = run.service.pid();
        let (before, memory) = (cost::processor_time(pid)?, cost::resident_memory(pid)?);
        self.insert_foreign().await?;
        let until = raw::cluster_time(&self.scene.database).await?;
        self.scene.until_applied(run, until).await?;
        let spent = cost::processor_time(pid)?.saturating_sub(before).as_secs_f64();
        let grown = cost::resident_memory(pid)?.saturating_sub(memory) as f64 / 1e6;
        self.figures.add("idle mirror, 500,000 foreign", Sample::of(spent * self.size.foreign_divisor as f64));
        self.figures.add("idle mirror, memory grown", Sample::of(grown));
        Ok(())
    }

    /// An error unless the last edit of the backlog is visible in its job.
    async fn check_job(&self, edits: &[Edit]) -> Result<(), Failure> {
        let Some((mark, edit)) = (self.mark + 400_000..).zip(edits).last() else { return Ok(()) };
        let job = doc! { "$elemMatch": { "_id": edit.job, "job_description": description(mark) } };
        let shown = doc! { "_id": edit.recruiter, "jobs": job };
        match self.scene.database.collection::<Document>("recruiters").find_one(shown).await? {
            Some(_) => Ok(()),
            None => Err("a job does not show the last edit of its offer".into()),
        }
    }
}

/// An application's edit of an offer.
fn of_offer(edit: &Edit, mark: u64) -> Document {
    let date = DateTime::from_millis(LATER + i64::try_from(mark).unwrap_or_default());
    let set = doc! { "offer_description": description(mark), "updated_at": date };
    doc! { "q": { "_id": edit.job }, "u": { "$set": set } }
}
