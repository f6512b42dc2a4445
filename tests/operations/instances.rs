//! All instances with role, version and age: in `status`, in `/api/status` and on the page, from the lease and the signs of
//! life (`stream_processor_instances`).

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::runs::{started, stopped};
use crate::support::state::{end_lease, state};
use crate::support::waiting::{PATIENCE, eventually};

const OLDER: &str = "another/1/0";

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_deploy_shows_leader_and_standbys_with_both_versions_everywhere() {
    let test = TestDatabase::create("instances_deploy").await;
    let leader = started(&test).await;
    let standby = Processor::start_ready(&test, &[]).await;
    // What an instance of another version writes.
    let now = DateTime::now();
    let older = doc! { "_id": OLDER, "version": "0.9.0", "role": "standby", "since": now, "seen_at": now };
    test.collection("stream_processor_instances").insert_one(older).await.unwrap();
    let wanted = [("leader", env!("CARGO_PKG_VERSION")), ("standby", "0.9.0"), ("standby", env!("CARGO_PKG_VERSION"))];
    for processor in [&leader, &standby] {
        eventually(PATIENCE, "all are shown", async || {
            let page = processor.http_get("/").await.1;
            let api: Value = serde_json::from_str(&processor.http_get("/api/status").await.1).unwrap();
            let shown = roles(&api["service"]["instances"]) == roles(&status(&test).await["instances"]);
            let is_on_page = page.contains(">0.9.0</data>") && page.contains(">another/1/0</data>");
            let mut all = roles(&api["service"]["instances"]);
            all.sort();
            (shown && is_on_page && all == wanted.map(|(role, version)| (role.to_owned(), version.to_owned())))
                .then_some(())
        })
        .await;
    }
    let text = Processor::command(&["status"], &test, &[]).await.stdout;
    assert!(text.contains("another/1/0  standby  version 0.9.0  since "), "{text}");
    stopped(leader).await;
    stopped(standby).await;
    let signs: Vec<Document> =
        test.collection("stream_processor_instances").find(doc! {}).await.unwrap().try_collect().await.unwrap();
    assert_eq!(signs.len(), 1, "who ends well says farewell: {signs:?}");
    assert_eq!(signs[0].get_str("_id").unwrap(), OLDER);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_silent_once_another_leads_and_names_have_no_number_of_the_leadership() {
    let test = TestDatabase::create("instances_killed").await;
    let lease = [("STREAM_PROCESSOR__LEASE__DURATION", "2s")];
    let mut first = Processor::start_ready(&test, &lease).await;
    // The instance loses the lease and takes it again, under a name of its own for this leadership.
    end_lease(&test.database).await;
    let taken = doc! { "$set": { "holder": "another/1/0" } };
    test.collection("stream_processor_state").update_one(doc! { "_id": "lease" }, taken).await.unwrap();
    let holder = eventually(PATIENCE, "it leads again", async || {
        let holder = state(&test.database, "lease").await?.get_str("holder").ok()?.to_owned();
        holder.ends_with("/2").then_some(holder)
    })
    .await;
    let name = holder.trim_end_matches("/2").to_owned();
    eventually(PATIENCE, "it is shown as leader under its own name", async || {
        let status = status(&test).await;
        let told = (&status["leader"]["name"], &status["instances"][0]["name"], &status["instances"][0]["role"]);
        (told == (&name.as_str().into(), &name.as_str().into(), &"leader".into())).then_some(())
    })
    .await;

    let second = Processor::start_ready(&test, &lease).await;
    first.sigkill();
    end_lease(&test.database).await;
    eventually(PATIENCE, "the other one leads, and the killed one is silent", async || {
        let instances = status(&test).await["instances"].clone();
        let silent = instances.as_array()?.iter().find(|instance| instance["name"] == name.as_str())?["role"].clone();
        (instances[0]["role"] == "leader" && instances[0]["name"] != name.as_str() && silent == "silent").then_some(())
    })
    .await;
    stopped(second).await;
}

/// The roles and versions of instances.
fn roles(instances: &Value) -> Vec<(String, String)> {
    let text = |instance: &Value, field: &str| instance[field].as_str().unwrap_or("unknown").to_owned();
    let instances = instances.as_array().into_iter().flatten();
    instances.map(|instance| (text(instance, "role"), text(instance, "version"))).collect()
}

async fn status(test: &TestDatabase) -> Value {
    let ended = Processor::command(&["status", "--json"], test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
