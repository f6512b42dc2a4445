//! The first night on the platform (spec 09): rehearsal, first run, a night of both systems side by side, and the
//! morning after. The clock of the jobs is the test's; the platform's processes are clients of the test.

mod day_before;
mod morning;

use bson::{Document, doc};
use futures::TryStreamExt as _;
use serde_json::Value;
use xtask::golden::{TargetModel, put_target_validator};

use self::day_before::{BEGIN, Case, HOUR, Kind, LABEL, at, day_before};
use self::morning::Morning;
use crate::support::database::TestDatabase;
use crate::support::mail_server::MailServer;
use crate::support::offers;
use crate::support::platform::{Closing, close, edit_job, expire_offers};
use crate::support::processor::Processor;
use crate::support::runs::started_with;
use crate::support::state::{end_lease, settled, state, until_no_resync};
use crate::support::ticking::{ON, Time, date, later, until_run};
use crate::support::waiting::{PATIENCE, eventually};
use stream_processor::inside::{Schedule, zone};

const MINUTE: i64 = 60_000;
/// 10:00 in Paris, after the beginning.
const MORNING: i64 = 11 * HOUR;
/// 09:20 in Paris, in minutes.
const REMINDERS: i64 = 620;
/// The numbers of recruiters of the platform.
const FEW: usize = 260;
const MANY: usize = 2_000;
/// The jobs of the night with their expressions.
const JOBS: [(&str, &[&str]); 9] = [
    ("remind-expiring-offers-j7", &["20 9 * * *"]),
    ("remind-expiring-offers-j1", &["25 9 * * *"]),
    ("cancel-expired-offers", &["15 0 * * *", "0 * * * *"]),
    ("refresh-pending-establishments", &["10 0 * * *"]),
    ("send-introductions", &["55 1 * * *"]),
    ("anonymize-inactive-users", &["0 1 * * *"]),
    ("sync-recruiter-status", &["*/15 * * * *"]),
    ("retry-dead-letters", &["* * * * *"]),
    ("verify", &["30 4 * * *"]),
];

/// What the whole night works with.
struct Night {
    test: TestDatabase,
    cases: Vec<Case>,
    clock: Time,
    mail: MailServer,
    model: (TargetModel, &'static str),
    /// The indexes of the model. A deploy drops all others.
    indexes: Vec<String>,
}

impl Night {
    async fn prepare(model: TargetModel, action: &'static str, recruiters: usize) -> Self {
        let (test, cases) = day_before(model, action, recruiters).await;
        let indexes = test.collection("jobs_partners").list_index_names().await.unwrap();
        let ours = doc! { "key": { "managed_by": 1, "relance_mail_expiration_J7": 1 }, "name": "of the service" };
        test.database.run_command(doc! { "createIndexes": "jobs_partners", "indexes": [ours] }).await.unwrap();
        let mail = MailServer::start(|_, _| None).await;
        Self { test, cases, clock: Time::at(BEGIN), mail, model: (model, action), indexes }
    }

    async fn started(&self) -> Processor {
        let url = self.mail.url();
        let mail = [("SMTP_URL", url.as_str()), ("STREAM_PROCESSOR__SMTP__RATE", "1000")];
        started_with(&self.test, &[&[ON, LABEL, self.clock.variable()][..], &mail].concat()).await
    }

    async fn command(&self, arguments: &[&str]) -> Value {
        let ended = Processor::command(arguments, &self.test, &[LABEL]).await;
        assert_eq!(ended.code, 0, "{arguments:?}\n{}\n{}", ended.stdout, ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(move |case| case.kind == kind)
    }

    /// The first run changes what the dry run foretold, and nothing else.
    async fn rehearse_and_start(&self) -> Processor {
        let doctor = self.command(&["doctor", "--against-platform", "--json"]).await;
        let dry_run = self.command(&["backfill", "--dry-run", "--json"]).await;
        let before = offers::read(&self.test.database).await;
        let processor = self.started().await;
        until_no_resync(&self.test.database).await;
        settled(&self.test.database).await;
        let begun = doc! { "_id": "ticker", "through.verify": date(BEGIN) };
        let states = self.test.collection("stream_processor_state");
        eventually(PATIENCE, "the ticker has begun", async || states.find_one(begun.clone()).await.unwrap()).await;
        let after = offers::read(&self.test.database).await;
        morning::assert_foretold(&dry_run, &before, &after);
        for field in ["created", "changed", "unchanged", "status_changes", "dead_letters"] {
            assert_eq!(doctor["platform"]["first_run"][field], dry_run[field], "{field}");
        }
        assert_eq!(doctor["platform"]["first_run"]["closed_elsewhere"], self.closed_before(), "{doctor:#}");
        processor
    }

    /// In the model before, an offer does not name its user, so jobs with e-mail are skipped.
    fn sends_mail(&self) -> bool {
        self.model.0 != TargetModel::Before
    }

    fn closed_before(&self) -> usize {
        self.cases.iter().filter(|case| matches!(case.kind, Kind::Closed(_))).count()
    }

    /// A process of the platform starts with a new version.
    async fn deploy(&self) {
        let (model, action) = self.model;
        put_target_validator(&self.test.database, model, action).await.unwrap();
        let offers = self.test.collection("jobs_partners");
        for name in offers.list_index_names().await.unwrap() {
            if !self.indexes.contains(&name) {
                offers.drop_index(name).await.unwrap();
            }
        }
    }

    /// Puts the clock forward, and waits until all that is due by then is done.
    async fn pass_to(&self, minutes: i64) {
        let now = at(minutes * MINUTE);
        self.clock.set(now);
        let ran = |(_, crons): &&(&str, &[&str])| {
            let schedule = Schedule::parse(crons, zone("Europe/Paris").unwrap()).unwrap();
            schedule.due(later(now, -48 * HOUR), now).unwrap().last > date(BEGIN)
        };
        let jobs: Vec<(&str, &[&str])> = JOBS.iter().filter(ran).copied().collect();
        until_run(&self.test, &jobs, now).await;
        settled(&self.test.database).await;
    }

    /// What people do at this time.
    async fn people(&self, minutes: i64) {
        let now = at(minutes * MINUTE);
        match minutes {
            30 => {
                for case in self.of(Kind::Prolonged) {
                    let fields =
                        doc! { "job_expiration_date": later(now, 60 * 24 * HOUR), "job_prolongation_count": 1 };
                    edit_job(&self.test, case.particular, fields, now).await;
                }
            }
            90 => {
                // The job is cancelled by now.
                for case in self.of(Kind::ProlongedLate) {
                    let prolonged = doc! { "job_status": "Active", "job_expiration_date": later(now, 60 * 24 * HOUR) };
                    edit_job(&self.test, case.particular, prolonged, now).await;
                }
            }
            240 => {
                for case in self.of(Kind::CappedAtNight).chain(self.of(Kind::CappedThenEdited)) {
                    close(&self.test, case.particular, Closing::Capped, now).await;
                }
            }
            330 => {
                let edit = doc! { "job_description": "plus longue" };
                for case in self.of(Kind::CappedAtNight) {
                    edit_job(&self.test, case.plain, edit.clone(), now).await;
                }
                for case in self.of(Kind::CappedThenEdited) {
                    edit_job(&self.test, case.particular, edit.clone(), now).await;
                }
            }
            390 => {
                for case in self.of(Kind::ArchivedAtNight) {
                    let archived = doc! { "$set": { "status": "Archivé", "updatedAt": now } };
                    let recruiters = self.test.collection("recruiters");
                    recruiters.update_one(doc! { "_id": case.recruiter }, archived).await.unwrap();
                }
            }
            540 => {
                for case in self.of(Kind::ProvidedByLink) {
                    close(&self.test, case.particular, Closing::Provided, now).await;
                }
            }
            _ => {}
        }
    }

    /// The reminders of 09:20 begin, and the service is killed in the middle of them.
    async fn kill_while_it_reminds(&self, mut processor: Processor) -> Processor {
        let before = self.mail.received().len();
        self.clock.set(at(REMINDERS * MINUTE));
        eventually(PATIENCE, "a reminder", async || (self.mail.received().len() > before).then_some(())).await;
        processor.sigkill();
        end_lease(&self.test.database).await;
        self.started().await
    }

    /// A day on which nothing but the jobs happens, until the second morning.
    async fn pass_second_day(&self) {
        const DAY: i64 = 24 * 60;
        for minutes in [14 * 60, DAY, DAY + 75, DAY + 120, DAY + 175, DAY + 620, DAY + 625, DAY + MORNING / MINUTE] {
            expire_offers(&self.test, at(minutes * MINUTE)).await;
            self.pass_to(minutes).await;
        }
    }

    /// From 23:00 to 10:00.
    async fn pass(&self, mut processor: Processor) -> Processor {
        let mut times: Vec<i64> = (0..=MORNING / MINUTE).step_by(30).chain([70, 75, 175, REMINDERS, 625]).collect();
        times.sort_unstable();
        for minutes in times {
            if minutes % 30 == 0 {
                expire_offers(&self.test, at(minutes * MINUTE)).await;
            }
            self.people(minutes).await;
            if minutes == 210 {
                self.deploy().await;
            }
            if minutes == 330 {
                // Right after the edits, and before they are projected, or while they are.
                processor.sigkill();
                end_lease(&self.test.database).await;
                processor = self.started().await;
            }
            if minutes == REMINDERS && self.sends_mail() {
                processor = self.kill_while_it_reminds(processor).await;
            }
            self.pass_to(minutes).await;
        }
        processor
    }

    async fn all(&self, collection: &str) -> Vec<Document> {
        self.test.collection(collection).find(doc! {}).await.unwrap().try_collect().await.unwrap()
    }
}

async fn spend(model: TargetModel, action: &'static str, recruiters: usize) {
    let night = Night::prepare(model, action, recruiters).await;
    let processor = night.rehearse_and_start().await;
    let processor = night.pass(processor).await;
    morning::assert_decisions_stand(&night, Morning::First).await;
    morning::assert_each_message_once(&night).await;
    night.pass_second_day().await;
    morning::assert_decisions_stand(&night, Morning::Second).await;
    morning::assert_each_message_once(&night).await;
    assert!(night.all("stream_processor_dead_letters").await.is_empty(), "the data justify no dead letter");
    assert!(state(&night.test.database, "resync").await.is_none());
    let verified = night.command(&["verify", "--json"]).await;
    morning::assert_verified(&night, &verified);
    morning::assert_nothing_more_to_do(&night, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_first_nights_beside_the_model_before_nothing_that_others_decided_is_undone() {
    spend(TargetModel::Before, "warn", FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_first_nights_beside_the_planned_model_nothing_that_others_decided_is_undone() {
    spend(TargetModel::Planned, "warn", MANY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_first_nights_beside_the_live_model_nothing_that_others_decided_is_undone() {
    spend(TargetModel::Live, "error", FEW).await;
}
