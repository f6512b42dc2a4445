//! What a network does between the service and its server: connections are cut, stand still, or stay open although
//! the other side is gone. A TCP proxy does it to the service's connections only.

use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::processor::Processor;
use crate::support::proxy::{Line, Proxy};
use crate::support::runs::started_with;
use crate::support::state::until_no_resync;
use crate::support::waiting::{PATIENCE, eventually};
use crate::support::workload::Workload;

const RECRUITERS: usize = 300;
/// Not ready as soon as something is tried again for longer than a moment.
const SOON_UNREADY: (&str, &str) = ("STREAM_PROCESSOR__HEALTH__MAX_RETRY", "1s");

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_cut_twenty_times_while_updates_arrive_loses_none() {
    let mut far = Far::start("faults_cut").await;
    for _ in 0..20 {
        for _ in 0..75 {
            far.workload.update(&far.test.database).await;
        }
        let connections = far.proxy.connections();
        far.proxy.cut().await;
        eventually(PATIENCE, "it connects again", async || (far.proxy.connections() > connections).then_some(())).await;
    }
    far.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_stands_still_until_the_service_complains_loses_nothing() {
    let mut far = Far::start("faults_stall").await;
    far.breaks(Line::Stalls).await;
    far.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_whose_other_side_is_gone_are_given_up_and_nothing_is_lost() {
    let mut far = Far::start("faults_half_open").await;
    far.breaks(Line::LosesAnswers).await;
    far.assert_nothing_lost().await;
}

/// A service that reaches its server through a proxy.
struct Far {
    test: TestDatabase,
    workload: Workload,
    processor: Processor,
    proxy: Proxy,
    _set: ReplicaSet,
}

impl Far {
    async fn start(prefix: &str) -> Self {
        let mut set = ReplicaSet::start(&Options::default()).unwrap();
        let mut test = TestDatabase::create_on(&set.uri(), prefix).await;
        let workload = Workload::insert(&test.database, 5, RECRUITERS).await;
        let proxy = Proxy::start(&set.member(0).host()).await;
        // How soon the driver notices: its own limits are for lines that are slower than this one.
        test.uri = format!("{}&connectTimeoutMS=1000&heartbeatFrequencyMS=500", proxy.uri());
        let processor = started_with(&test, &[SOON_UNREADY]).await;
        until_no_resync(&test.database).await;
        Self { test, workload, processor, proxy, _set: set }
    }

    /// Breaks the line in the middle of a backlog, adds to the backlog, and mends the line when the service complains.
    async fn breaks(&mut self, line: Line) {
        self.workload.backlog(&self.test.database, 2_000).await;
        self.proxy.set(line);
        self.workload.backlog(&self.test.database, 500).await;
        eventually(PATIENCE, "the service complains", async || {
            self.processor.try_get("/readyz").await.filter(|(status, _)| *status == 503)
        })
        .await;
        assert_eq!(self.processor.http_get("/livez").await.0, 200, "a restart of the service would not help");
        self.proxy.set(Line::Passes);
        self.workload.backlog(&self.test.database, 500).await;
    }

    async fn assert_nothing_lost(self) {
        assert_nothing_lost(self.test, self.processor).await;
    }
}
