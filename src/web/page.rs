//! The status page for people: the template `page.html`, filled from [`Status`]. The page is complete without scripts.
//! Each shown value carries its path in `/api/status`, so that the page and the JSON can be compared.

use std::collections::BTreeMap;
use std::fmt::Display;

use askama::Template;
use chrono_tz::Tz;

use super::chart::{Chart, Drawn, HEIGHT};
use super::for_people::{duration, grouped, milliseconds, moment, number, whole};
use super::runbook::anchor;
use crate::observe::health::Role;
use crate::observe::latency::Percentiles;
use crate::phase::Phase;
use crate::schedule::zone;
use crate::status::counts::Counts;
use crate::status::document::{Service, Status};
use crate::status::events::ShownEvent;
use crate::status::instances::InstanceStatus;
use crate::status::job_status::JobStatus;
use crate::status::survey::BETWEEN_COUNTS;
use crate::status::verdict_state::VerdictState;

/// The headroom in seconds below which a person should look (spec 06, "Alerts").
const LITTLE_HEADROOM: f64 = 6.0 * 3_600.0;
/// The headroom in seconds below which a person must look at once.
const NO_HEADROOM: f64 = 3_600.0;

const COUNTED_EVERY: u64 = BETWEEN_COUNTS.as_secs();

/// The data of the template.
#[derive(Debug, Template)]
#[template(path = "web/page.html", config = ".askama.toml")]
pub(super) struct Page<'a> {
    status: &'a Status,
    lag: Chart,
    throughput: Chart,
}

/// One value of `/api/status`, formatted for people.
#[derive(Debug)]
struct PageValue {
    /// The JSON pointer of the value in `/api/status`; empty for a value that is not there.
    path: String,
    /// The value as in the JSON; empty for null.
    raw: String,
    text: String,
}

/// One row of the table of collections.
#[derive(Debug)]
struct CollectionRow {
    name: &'static str,
    documents: PageValue,
    /// The events since the start.
    events: PageValue,
}

/// One of the large numbers at the top of the page.
#[derive(Debug)]
struct Tile {
    label: &'static str,
    value: PageValue,
    /// `ok`, `warn` or `bad`; `none` when the number says nothing about health.
    level: &'static str,
    /// A short explanation below the number.
    about: String,
}

impl<'a> Page<'a> {
    /// The page of a status, with its charts.
    #[must_use]
    pub(super) fn of(status: &'a Status) -> Self {
        let series = &status.history;
        let lag = Drawn { label: "lag", class: "a", values: &series.lag_seconds };
        let events = Drawn { label: "events read", class: "a", values: &series.events_per_second };
        let offers = Drawn { label: "offers written", class: "b", values: &series.offers_per_second };
        Self { status, lag: Chart::of(&[lag], 5.0), throughput: Chart::of(&[events, offers], 5.0) }
    }

    fn level(&self) -> &'static str {
        self.status.verdict.severity.word()
    }

    fn headline(&self) -> &'static str {
        self.status.verdict.state.headline()
    }

    fn sentence(&self) -> &'static str {
        self.status.verdict.state.sentence()
    }

    fn left(&self) -> Option<String> {
        self.status.verdict.seconds_left.map(duration)
    }

    fn tiles(&self) -> Vec<Tile> {
        let status = self.status;
        let service = status.service.as_ref();
        let lag_level = match self.status.verdict.state {
            VerdictState::CatchingUp | VerdictState::NotReady | VerdictState::Halted => self.level(),
            _ => "none",
        };
        let leader = service.and_then(|service| service.leader.as_ref());
        // A standby has no lag of its own, so its page shows the lag of the leader.
        let lag = match (status.instance.role, leader) {
            (Role::Standby, Some(leader)) => Tile {
                label: "Lag",
                value: seconds("/service/leader/lag_seconds", &leader.lag_seconds),
                level: "none",
                about: "of the leader".to_owned(),
            },
            _ => Tile {
                label: "Lag",
                value: seconds("/lag_seconds", &status.lag_seconds),
                level: lag_level,
                about: "behind the server's time".to_owned(),
            },
        };
        let mut tiles = vec![
            lag,
            Tile {
                label: "Latency",
                value: latency(status.last_minute.latency),
                level: "none",
                about: median(status.last_minute.latency),
            },
            Tile {
                label: "Events read",
                value: rate("/last_minute/events", status.last_minute.events),
                level: "none",
                about: "mean of the last minute".to_owned(),
            },
            Tile {
                label: "Offers written",
                value: rate("/last_minute/offers", status.last_minute.offers),
                level: "none",
                about: "mean of the last minute".to_owned(),
            },
        ];
        tiles.extend(service.into_iter().flat_map(service_tiles));
        tiles
    }

    fn phases(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let current = self.status.service.as_ref().map(|service| service.phase.name);
        Phase::ALL.into_iter().map(move |phase| (phase.word(), Some(phase.word()) == current))
    }

    /// Each collection with its documents and its events since the start.
    fn collections(&self) -> Vec<CollectionRow> {
        let empty = BTreeMap::new();
        let documents = self.status.counts.as_ref().map_or(&empty, |counts| &counts.documents);
        let events = &self.status.since_start.events_by_collection;
        let rows = documents.iter().map(|(name, documents)| {
            let events = match events.get(*name) {
                Some(read) => count(&format!("/since_start/events_by_collection/{name}"), read),
                None => PageValue { path: String::new(), raw: String::new(), text: "0".to_owned() },
            };
            CollectionRow { name, documents: count(&format!("/counts/documents/{name}"), documents), events }
        });
        rows.collect()
    }

    fn statuses(&self, of: &str, counted: &BTreeMap<&'static str, u64>) -> Vec<(String, PageValue)> {
        let row = |(status, number): (&&'static str, &u64)| {
            ((*status).to_owned(), count(&format!("/counts/{of}/{status}"), number))
        };
        counted.iter().map(row).collect()
    }

    fn reasons(&self, service: &Service) -> Vec<(String, PageValue)> {
        let row = |(reason, number): (&String, &u64)| {
            (reason.replace('_', " "), count(&format!("/service/dead_letters_by_reason/{reason}"), number))
        };
        service.dead_letters_by_reason.iter().map(row).collect()
    }

    /// A time for people, in the time zone of the time-based jobs.
    fn moment(&self, rfc3339: &str) -> String {
        moment(rfc3339, zone(self.status.time_zone).unwrap_or(Tz::UTC))
    }

    /// The time-based jobs in one line, for a phone.
    fn jobs_in_short(&self, service: &Service) -> String {
        let failed = |job: &&JobStatus| job.last.as_ref().is_some_and(|last| last.outcome == "failed");
        let on = service.jobs.iter().filter(|job| job.enabled).count();
        let failed = service.jobs.iter().filter(failed).count();
        let next = service.jobs.iter().filter_map(|job| Some((job.next.as_ref()?, job.name))).min();
        let next = next.map_or_else(String::new, |(at, name)| format!("; next {name}, {}", self.moment(at)));
        format!("{on} of {} on, {failed} failed last{next}", service.jobs.len())
    }

    /// The last event in one line, for a phone.
    fn events_in_short(&self, service: &Service) -> String {
        let last = |event: &ShownEvent| format!("{}, {}", event.kind.replace('_', " "), self.moment(&event.at));
        service.events.first().map_or_else(String::new, |event| format!("Last: {}", last(event)))
    }

    /// Our offers in one line, for a phone.
    fn offers_in_short(&self, counts: &Counts) -> String {
        let active = counts.target_offers.get("Active").copied().unwrap_or_default();
        let all: u64 = counts.target_offers.values().sum();
        format!("{} of our {} offers active", grouped(active), grouped(all))
    }

    fn has_standby(&self, service: &Service) -> bool {
        service.instances.iter().any(InstanceStatus::is_standby)
    }

    fn unmet(&self, service: &Service) -> usize {
        service.phase.conditions.iter().filter(|condition| !condition.met).count()
    }
}

fn service_tiles(service: &Service) -> [Tile; 3] {
    let headroom = service.token_headroom_seconds;
    let level = match headroom {
        Some(left) if left < NO_HEADROOM => "bad",
        Some(left) if left < LITTLE_HEADROOM => "warn",
        Some(_) => "ok",
        None => "none",
    };
    #[expect(clippy::cast_precision_loss, reason = "an age in seconds")]
    let age = service.checkpoint.as_ref().map(|checkpoint| checkpoint.age_seconds as f64);
    [
        Tile {
            label: "Checkpoint",
            value: seconds("/service/checkpoint/age_seconds", &age),
            level: "none",
            about: "age of the saved position, by the server's time".to_owned(),
        },
        Tile {
            label: "Oplog headroom",
            value: seconds("/service/token_headroom_seconds", &headroom),
            level,
            about: "until the checkpoint would fall off".to_owned(),
        },
        Tile {
            label: "Dead letters",
            value: count("/service/dead_letters", &service.dead_letters),
            level: if service.dead_letters == 0 { "ok" } else { "warn" },
            about: "documents that wait for a correction".to_owned(),
        },
    ]
}

/// The latency that 99 of 100 events do not exceed.
fn latency(latency: Option<Percentiles>) -> PageValue {
    let path = "/last_minute/latency/p99_seconds";
    match latency {
        Some(latency) => value(path, Some(latency.p99_seconds), || milliseconds(latency.p99_seconds)),
        None => PageValue { path: String::new(), raw: String::new(), text: "no event".to_owned() },
    }
}

fn median(latency: Option<Percentiles>) -> String {
    latency.map_or_else(
        || "in the last minute".to_owned(),
        |latency| {
            format!("99 of 100 events of the last minute; half of them within {}", milliseconds(latency.p50_seconds))
        },
    )
}

fn value(path: &str, raw: Option<impl Display>, text: impl FnOnce() -> String) -> PageValue {
    match raw {
        Some(raw) => PageValue { path: path.to_owned(), raw: raw.to_string(), text: text() },
        None => PageValue { path: path.to_owned(), raw: String::new(), text: "unknown".to_owned() },
    }
}

fn seconds(path: &str, seconds: &Option<f64>) -> PageValue {
    value(path, *seconds, || duration(seconds.unwrap_or_default()))
}

fn rate(path: &str, rate: Option<f64>) -> PageValue {
    value(path, rate, || format!("{} /s", number(&rate.unwrap_or_default())))
}

fn count(path: &str, count: &u64) -> PageValue {
    value(path, Some(count), || grouped(*count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_said_to_be() {
        let unknown = seconds("/lag_seconds", &None);
        assert_eq!((unknown.raw.as_str(), unknown.text.as_str()), ("", "unknown"));
    }
}
