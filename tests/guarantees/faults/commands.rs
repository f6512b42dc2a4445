//! Every command that the service sends fails in every way of the matrix, once and then several times in a row
//! (MongoDB's failpoint `failCommand`), while recruiters come, change, lose jobs and go.

use bson::{Document, doc};
use xtask::mongod::{Options, ReplicaSet};

use super::round::Round;
use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::failpoints::{mend, refuse_next};
use crate::support::processor::Processor;
use crate::support::runs::{BRISK, started_with};
use crate::support::state::{settled, until_no_resync};

/// How often in a row a command fails.
const ONCE_AND_SEVERAL: [i32; 2] = [1, 3];

/// Elections, shutdowns, interruptions, a lost position, a changed pipeline, refused rights: the codes of the matrix.
const CODES: [i32; 10] = [91, 189, 10107, 11600, 43, 50, 286, 280, 136, 13];

/// Commands that fail, and where.
#[derive(Clone, Copy)]
struct Target<'a> {
    commands: &'a [&'a str],
    /// On this collection only; else whatever the service sends first.
    collection: Option<&'a str>,
    /// Refusals that come before those that are meant.
    before: i32,
}

const fn commands<'a>(commands: &'a [&'a str]) -> Target<'a> {
    Target { commands, collection: None, before: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_opened_or_read_loses_nothing() {
    // A stream is opened again only after it broke: the first refusal is always that of a `getMore`.
    let opening = Target { before: 1, ..commands(&["getMore", "aggregate"]) };
    // On two servers at once: most of the time is waiting.
    futures::join!(
        lose_nothing(vec![(commands(&["getMore"]), every_way(), &ONCE_AND_SEVERAL)]),
        lose_nothing(vec![(opening, every_way(), &ONCE_AND_SEVERAL)]),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_fail_lose_nothing() {
    let read =
        ["jobs_partners", "stream_processor_links", "anonymized_recruiters", "referentiel_engagement_entreprise"];
    let reads = read.map(|collection| {
        let target = Target { collection: Some(collection), ..commands(&["find"]) };
        (target, vec![doc! { "closeConnection": true }], &ONCE_AND_SEVERAL[..])
    });
    futures::join!(
        lose_nothing(vec![(commands(&["find"]), every_way(), &ONCE_AND_SEVERAL)]),
        lose_nothing(reads.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_fail_lose_nothing() {
    let not_by_a_majority = doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } };
    let ways = [every_way(), vec![not_by_a_majority.clone()]].concat();
    let written =
        ["jobs_partners", "stream_processor_links", "stream_processor_dead_letters", "stream_processor_state"];
    let writes = written.map(|collection| Target { collection: Some(collection), ..commands(&["update"]) });
    let cut = writes.map(|target| (target, vec![doc! { "closeConnection": true }], &ONCE_AND_SEVERAL[..]));
    // What was written all the same is not written again.
    let unsure = writes.map(|target| (target, vec![not_by_a_majority.clone()], &ONCE_AND_SEVERAL[..1]));
    futures::join!(
        lose_nothing(vec![(commands(&["update", "delete"]), ways, &ONCE_AND_SEVERAL)]),
        lose_nothing([cut, unsure].concat()),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_greet_loses_nothing() {
    lose_nothing(vec![(commands(&["hello"]), every_way(), &ONCE_AND_SEVERAL)]).await;
}

/// The service sends no `insert`: its writes are updates that may be sent twice. One that fails is met by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn inserts_that_fail_are_not_even_noticed() {
    let server = Server::start().await;
    let round = Round::begin(&server.test).await;
    let refusals = refuse_next(&server.test.database, 1, &["insert"], None, doc! { "errorCode": 91 }).await;
    round.play(&server.test).await;
    settled(&server.test.database).await;
    round.assert_applied(&server.test, "insert").await;
    assert_eq!(refusals.so_far(&server.test.database).await, 0);
    server.assert_nothing_lost().await;
}

/// The ways in which a command can fail whole.
fn every_way() -> Vec<Document> {
    let codes = CODES.iter().map(|code| doc! { "errorCode": code });
    [doc! { "closeConnection": true }].into_iter().chain(codes).collect()
}

/// Breaks one server with all of this, one after the other: what fails, in which ways, and how often in a row.
async fn lose_nothing(faults: Vec<(Target<'_>, Vec<Document>, &[i32])>) {
    let mut server = Server::start().await;
    for (target, ways, times) in faults {
        server.breaks(&target, &ways, times).await;
    }
    server.assert_nothing_lost().await;
}

/// A server that the test breaks, with a service on it.
struct Server {
    test: TestDatabase,
    processor: Processor,
    _set: ReplicaSet,
}

impl Server {
    async fn start() -> Self {
        let set = ReplicaSet::start(&Options::default()).unwrap();
        let mut test = TestDatabase::create_on(&set.uri(), "faults_commands").await;
        // How often the driver greets a server that it knows.
        test.uri.push_str("&heartbeatFrequencyMS=500");
        let processor = started_with(&test, &BRISK).await;
        until_no_resync(&test.database).await;
        Self { test, processor, _set: set }
    }

    /// Lets these commands fail in each of these ways, so many times in a row.
    async fn breaks(&mut self, target: &Target<'_>, ways: &[Document], times: &[i32]) {
        let Target { commands, collection, before } = *target;
        let database = &self.test.database;
        for (way, times) in ways.iter().flat_map(|way| times.iter().map(move |times| (way, *times))) {
            let what = format!("{commands:?} on {collection:?}, {times} × {way}");
            let round = Round::begin(&self.test).await;
            let refusals = refuse_next(database, before + times, commands, collection, way.clone()).await;
            round.play(&self.test).await;
            refusals.happened(database, &what).await;
            settled(database).await;
            // Only where the position was lost is there one: then it is what applies the round.
            until_no_resync(database).await;
            round.assert_applied(&self.test, &what).await;
            assert!(self.processor.is_running(), "{what}: the service ended");
        }
    }

    async fn assert_nothing_lost(self) {
        mend(&self.test.database).await;
        assert_nothing_lost(self.test, self.processor).await;
    }
}
