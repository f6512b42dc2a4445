//! Killed at every step of sending to two hundred users, the service loses no message and sends none three times.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bson::Document;

use crate::support::mail_server::{Fault, MailServer, Step};
use crate::support::mails::{NOW, filled, marked, outbox, recruiter_of, user};
use crate::support::processor::Processor;
use crate::support::recruiters::PERSONAL;
use crate::support::state::end_lease;
use crate::support::ticking::{counts, text, told};

const USERS: usize = 200;
const FIELD: &str = "relance_mail_expiration_J7";
const RUN: [&str; 6] = ["jobs", "run", "remind-expiring-offers-j7", "--json", "--now", NOW];
/// Where the program ends itself: when the note of the beginning stands, when the server has answered, when the note of
/// the end stands, when offers and jobs remember it.
const POINTS: [&str; 4] =
    ["mail_claimed/17/KILL", "mail_delivered/18/KILL", "mail_settled/19/KILL", "mail_marked/1/KILL"];
/// Where the server ends it, in the dialogue.
const STEPS: [Step; 5] = [Step::Sender, Step::Recipient, Step::Data, Step::Middle, Step::Content];

/// Kills a process when its dialogue reaches a step for the ninth time.
#[derive(Default)]
struct Killer {
    pid: AtomicU32,
    step: Mutex<Option<Step>>,
    times: AtomicUsize,
    killed: AtomicBool,
}

impl Killer {
    fn kills(&self, step: Step) -> Option<Fault> {
        if *self.step.lock().unwrap() != Some(step) || self.times.fetch_add(1, Ordering::SeqCst) != 8 {
            return None;
        }
        let pid = self.pid.load(Ordering::SeqCst).to_string();
        assert!(Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap().success());
        self.killed.store(true, Ordering::SeqCst);
        // The content may have been taken.
        Some(Fault::TakeAndStall)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_sending_it_loses_no_message_and_sends_none_three_times() {
    let users: Vec<Document> = (0..USERS).map(|number| user(&format!("user-{number}@example.com"))).collect();
    let recruiters: Vec<Document> = users.iter().map(|user| recruiter_of(user, &["Boulanger", "Vendeur"])).collect();
    let test = filled("mail_crashes", &users, &recruiters).await;
    let killer = Arc::new(Killer::default());
    let script = Arc::clone(&killer);
    let server = MailServer::start(move |step, _| script.kills(step)).await;
    let url = server.url();
    // One message at a time, so that no message meets two kills: its second copy is the last one (spec 05).
    let one = ("STREAM_PROCESSOR__SMTP__CONNECTIONS", "1");
    let settings = [("SMTP_URL", url.as_str()), ("STREAM_PROCESSOR__SMTP__RATE", "1000"), one];
    for point in POINTS {
        let settings = [&settings[..], &[("STREAM_PROCESSOR_FAILPOINT", point)]].concat();
        assert_eq!(Processor::command(&RUN, &test, &settings).await.code, 137, "{point}");
        end_lease(&test.database).await;
    }
    for step in STEPS {
        killer.times.store(0, Ordering::SeqCst);
        killer.killed.store(false, Ordering::SeqCst);
        // Nobody sends before the process id is known: the killer is armed last.
        let mut processor = Processor::spawn(&RUN, &test, &settings);
        killer.pid.store(processor.pid(), Ordering::SeqCst);
        *killer.step.lock().unwrap() = Some(step);
        assert_eq!(processor.until_ended().await.code, 137, "{step:?}");
        assert!(killer.killed.load(Ordering::SeqCst), "{step:?}");
        *killer.step.lock().unwrap() = None;
        end_lease(&test.database).await;
    }
    let (code, lines) = told(&RUN, &test, &settings).await;
    assert_eq!(code, 0, "{:?}", lines.last());

    let mut copies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in server.received() {
        copies.entry(message.to.clone()).or_default().push(message.header("Message-ID").unwrap());
    }
    assert_eq!(copies.len(), USERS, "everybody got a message");
    for (user, ids) in &copies {
        assert!(ids.len() <= 2, "{user} got {} copies", ids.len());
        assert!(ids.iter().all(|id| id == &ids[0]), "copies have one Message-ID");
    }
    assert!(copies.values().any(|ids| ids.len() == 2), "some were sent again, or nothing was tested");
    assert_eq!(marked(&test, FIELD).await, (2 * USERS, 2 * USERS));
    let entries = outbox(&test).await;
    assert!(entries.iter().all(|entry| text(entry, "state") == Some("sent")));
    let written = format!("{entries:?}");
    assert!(!written.contains(PERSONAL) && !written.contains("user-"), "the outbox knows nobody");

    let before = server.received().len();
    let (code, lines) = told(&RUN, &test, &settings).await;
    assert_eq!((code, counts(lines.last().unwrap()), server.received().len()), (0, [0, 0, 0], before));
}
