//! A random load on all watched collections, as fast as it goes, on two instances that are killed, ended and paused every
//! few seconds, sometimes both at once: in the end nothing differs, and no history repeats itself.
//!
//! `STREAM_PROCESSOR_TEST_MINUTES=60` goes on for an hour: `cargo xtask chaos --minutes 60`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng as _;
use xtask::guarded::Signal;

use super::agreement::{Moment, Sides};
use super::operations::Applications;
use super::seeds;
use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::runs::BRISK;
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

/// Short, so that a killed leader is followed soon.
const LEASE: (&str, &str) = ("STREAM_PROCESSOR__LEASE__DURATION", "2s");
/// The load between two faults, in operations.
const LOAD: std::ops::Range<u32> = 200..800;

#[tokio::test(flavor = "multi_thread")]
async fn under_a_random_load_two_instances_that_are_killed_every_few_seconds_lose_nothing() {
    let minutes = std::env::var("STREAM_PROCESSOR_TEST_MINUTES");
    let minutes: u32 = minutes.map_or(1, |minutes| minutes.parse().expect("a whole number of minutes"));
    let until = Instant::now() + Duration::from_secs(60) * minutes;
    let seed = seeds().start;
    let test = TestDatabase::with_planned_schema("stress").await;
    let mut applications = Applications::new(&test.database, seed);
    applications.begin().await;
    let start = || Processor::start(&test, &[&BRISK[..], &[LEASE]].concat());
    let mut instances = [start(), start()];
    let (mut faults, mut operations) = (BTreeMap::<&str, u32>::new(), 0);
    while Instant::now() < until {
        for _ in 0..applications.random.random_range(LOAD) {
            applications.act().await;
            operations += 1;
        }
        let fault = applications.random.random_range(0..10);
        let chosen = usize::from(applications.random.random_bool(0.5));
        let name = match fault {
            0..4 => {
                instances[chosen].sigkill();
                "killed"
            }
            4..6 => {
                instances.iter_mut().for_each(Processor::sigkill);
                "both killed"
            }
            6..8 => {
                instances[chosen].sigterm();
                instances[chosen].until_ended().await;
                "ended"
            }
            _ => {
                pause(&mut instances, chosen).await;
                "paused"
            }
        };
        *faults.entry(name).or_default() += 1;
        for instance in &mut instances {
            if !instance.is_running() {
                *instance = start();
            }
        }
    }
    applications.finish_steps().await;
    applications.tidy().await;
    for instance in &mut instances {
        instance.until_ready().await;
    }
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    let sides = Sides::read(&test.database, Moment::Settled, &BTreeMap::new(), false).await;
    let differences = sides.faults();
    assert!(differences.is_empty(), "seed {seed}:\n  {}", differences.join("\n  "));
    let verified = Processor::command(&["verify", "--json"], &test, &[]).await;
    assert_eq!(verified.code, 0, "seed {seed}: {}", verified.stdout);
    eprintln!("seed {seed}: {operations} operations, {faults:?}, 0 differences");
}

/// Until the other one leads, if this one does.
async fn pause(instances: &mut [Processor; 2], paused: usize) {
    instances[paused].signal(Signal::Stop);
    let other = &instances[1 - paused];
    eventually(PATIENCE, "the other one leads", async || {
        let (status, text) = other.try_get("/metrics").await?;
        (status == 200 && text.lines().any(|line| line == "stream_processor_leader 1")).then_some(())
    })
    .await;
    instances[paused].signal(Signal::Continue);
}
