//! The scenario of foreign writes in `sync`: offers of another partner are inserted and then changed in bulk while the
//! service has nothing to do. The processor time is what it costs to know who changes our offers.

use std::ops::Range;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use futures::{StreamExt as _, TryStreamExt as _};

use super::cost::Mark;
use super::raw;
use super::report::Sample;
use super::scenarios::Round;
use super::scene::Run;
use xtask::Failure;
use xtask::scrape::sum;

/// The number of foreign offers in spec 10.
const FOREIGN: usize = 500_000;
pub(super) const PER_INSERT: usize = 2_000;
/// The interval at which the metrics are read.
const POLL: Duration = Duration::from_millis(500);

impl Round<'_> {
    /// Measures both bulks beside an idle service in `sync`.
    pub(super) async fn foreign_writes(&mut self) -> Result<(), Failure> {
        let mut run = self.scene.start().await?;
        self.scene.until_synced(&run).await?;
        let before = self.scene.mark(&run)?;
        self.insert_foreign().await?;
        self.foreign_written(&mut run, before, ["foreign inserts, 500,000", "foreign inserts, mongod"]).await?;
        let before = self.scene.mark(&run)?;
        let offers = self.scene.database.collection::<Document>("jobs_partners");
        let changed = doc! { "$set": { "rank": 1, "offer_title": "changed", "offer_description": "changed" } };
        offers.update_many(doc! { "partner_label": "another partner" }, changed).await?;
        self.foreign_written(&mut run, before, ["foreign updates, 500,000", "foreign updates, mongod"]).await?;
        self.scene.stop(run).await.map(drop)
    }

    /// Inserts offers of another partner in bulk.
    pub(super) async fn insert_foreign(&self) -> Result<(), Failure> {
        let offers = self.scene.database.collection::<Document>("jobs_partners");
        let ours = offers.find_one(doc! {}).await?.ok_or("there are no offers")?;
        let count = FOREIGN / self.size.foreign_divisor;
        let (offers, ours) = (&offers, &ours);
        futures::stream::iter((0..count).step_by(PER_INSERT))
            .map(|first| async move { offers.insert_many(foreign_offers(ours, first..first + PER_INSERT)).await.map(drop) })
            .buffer_unordered(2)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// Waits until the service and its watch have read a bulk, and adds the processor times of both processes.
    async fn foreign_written(
        &mut self,
        run: &mut Run,
        before: Mark,
        [service, server]: [&str; 2],
    ) -> Result<(), Failure> {
        let database = &self.scene.database;
        self.scene.until_applied(run, raw::cluster_time(database).await?).await?;
        self.until_watched(run).await?;
        let spent = before.until(&self.scene.mark(run)?);
        let factor = self.size.foreign_divisor as f64;
        self.figures.add(service, Sample::of(spent.client.as_secs_f64() * factor));
        self.figures.add(server, Sample::of(spent.server.as_secs_f64() * factor));
        Ok(())
    }

    /// Waits until the watch for foreign writes has counted one to an offer of ours. Then it has read all before it, too.
    async fn until_watched(&self, run: &mut Run) -> Result<(), Failure> {
        const COUNTED: &str = "stream_processor_foreign_writes_total";
        let before = run.service.metrics().await?;
        if !before.contains(COUNTED) {
            // An earlier version has no watch.
            return Ok(());
        }
        let offers = self.scene.database.collection::<Document>("jobs_partners");
        let ours = doc! { "partner_label": { "$ne": "another partner" } };
        offers.update_one(ours, doc! { "$inc": { "applicationCount": 1 } }).await?;
        while sum(&run.service.metrics().await?, COUNTED, "") <= sum(&before, COUNTED, "") {
            run.service.must_be_running()?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

/// Offers of another partner with these numbers, which differ from `ours` in nothing else.
pub(super) fn foreign_offers(ours: &Document, numbers: Range<usize>) -> impl Iterator<Item = Document> {
    numbers.map(|number| {
        let mut offer = ours.clone();
        offer.extend(doc! {
            "_id": ObjectId::new(), "partner_label": "another partner", "partner_job_id": format!("{number}"),
        });
        offer
    })
}
