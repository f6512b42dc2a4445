//! The common part of the jobs that send e-mail: recipients, contents and the report. The values of users and offers go
//! into the messages and nowhere else.

use std::collections::{BTreeSet, HashMap};

use bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, doc};
use lettre::Address;

use super::super::report::ReportLine;
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::mail::compose::{clean, day, link};
use crate::mail::delivery::{Dealt, DeliveryOutcome};
use crate::mail::email::{Email, EmailOffer, Establishment, Footer, Template};
use crate::mail::email_links::{LinkUser, Links};
use crate::mail::mailer::{MailItem, Mailer};
use crate::mail::outbox;
use crate::mail::transport::address;
use crate::model::ids::{JobId, UserId};
use crate::model::names::WatchedCollection;
use crate::model::user_id::user_id;
use crate::model::value;
use crate::mongo::reads::{documents, find};
use crate::ticker::job_context::JobContext;
use crate::ticker::write_access::RunPace;

/// The maximal number of items in [`Later`], so that the memory of a run is bounded.
const LATER: usize = 10_000;

/// A user with a valid address.
#[derive(Debug, Clone)]
pub(super) struct Recipient {
    pub(super) id: UserId,
    pub(super) name: String,
    pub(super) to: Address,
}

/// Offers or users whose last message was deferred, with the time of that message. They come after all others in a run,
/// so that nobody waits behind an address that takes no mail.
#[derive(Debug)]
pub(super) struct Later<T>(Vec<(DateTime, T)>);

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Later<T> {
    /// Keeps the items whose user has a deferred last message, and returns the others. Once [`LATER`] items are kept,
    /// every further item is returned.
    pub(super) async fn set_aside(
        &mut self,
        job: &JobContext,
        all: Vec<T>,
        user: impl Fn(&T) -> Option<UserId>,
    ) -> Result<Vec<T>, Failure> {
        let users: BTreeSet<UserId> = all.iter().filter_map(&user).collect();
        let waiting = outbox::put_off(&job.context.database, &users.into_iter().collect::<Vec<_>>()).await?;
        let mut now = Vec::new();
        for one in all {
            match user(&one).and_then(|user| waiting.get(&user)) {
                Some(since) if self.0.len() < LATER => self.0.push((*since, one)),
                _ => now.push(one),
            }
        }
        Ok(now)
    }

    /// The kept items, the one with the oldest last message first, so that every user has a turn.
    pub(super) fn in_turn(mut self) -> Vec<T> {
        self.0.sort_by_key(|(since, _)| *since);
        self.0.into_iter().map(|(_, one)| one).collect()
    }
}

/// The values of one offer that its message needs. `user` is `None` where the offer names no user.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) id: JobId,
    pub(super) user: Option<UserId>,
    establishment: String,
    /// The id of the establishment, for the link of an introduction.
    establishment_id: Option<String>,
    offer: EmailOffer,
}

/// The projection of a query: the fields of an offer that [`Subject::read`] reads.
pub(super) fn fields() -> Document {
    let fields = [
        "managed_by",
        "updated_at",
        "workplace_name",
        "workplace_brand",
        "workplace_legal_name",
        "offer_title",
        "offer_rome_appellation",
        "contract_type",
        "contract_start",
        "offer_target_diploma.label",
        "offer_creation",
        "offer_expiration",
        "establishment_id",
        "lba_url",
    ];
    fields.into_iter().map(|field| (field.to_owned(), Bson::Int32(1))).collect()
}

impl Subject {
    /// The values of an offer; `None` where its `_id` is no ObjectId. Such an offer belongs to no job.
    pub(super) fn read(document: &RawDocument) -> Option<Self> {
        let text = |name| value::text(value::field(document, name)).map(clean).filter(|text| !text.is_empty());
        let date = |name| value::field(document, name).and_then(a_day);
        let types = value::list(value::field(document, "contract_type")).into_iter().flatten().flatten();
        let types: Vec<String> = types.filter_map(|word| word.as_str().map(clean)).collect();
        let diploma = value::object(value::field(document, "offer_target_diploma"));
        let level = diploma.and_then(|diploma| value::text(value::field(diploma, "label"))).map(clean);
        let names = ["workplace_name", "workplace_brand", "workplace_legal_name"];
        Some(Self {
            id: JobId(document.get_object_id("_id").ok()?),
            user: user_id(value::field(document, "managed_by")),
            establishment: names.into_iter().find_map(text).unwrap_or_else(|| "Enseigne inconnue".to_owned()),
            establishment_id: text("establishment_id"),
            offer: EmailOffer {
                title: text("offer_title").unwrap_or_else(|| "Offre".to_owned()),
                appellation: text("offer_rome_appellation"),
                contracts: if types.is_empty() { "Non précisé".to_owned() } else { types.join(", ") },
                level: level.unwrap_or_else(|| "Indifférent".to_owned()),
                start: date("contract_start").unwrap_or_else(|| "Non précisé".to_owned()),
                published: date("offer_creation").unwrap_or_default(),
                expires: value::field(document, "offer_expiration").and_then(a_date),
                url: value::text(value::field(document, "lba_url")).and_then(link),
                cancel: None,
                provided: None,
                introduction: None,
            },
        })
    }
}

/// A date. The live data has some dates as text.
fn a_date(date: RawBsonRef<'_>) -> Option<DateTime> {
    date.as_datetime().or_else(|| value::parse_date(date.as_str()?))
}

/// A date as a day for a message.
fn a_day(date: RawBsonRef<'_>) -> Option<String> {
    a_date(date).map(day)
}

/// The recipients for these users. A user without a valid address has a label for the report instead: `no_user` or
/// `no_address`.
pub(super) async fn recipients(
    job: &JobContext,
    users: &BTreeSet<UserId>,
) -> Result<HashMap<UserId, Result<Recipient, &'static str>>, Failure> {
    let users: Vec<UserId> = users.iter().copied().collect();
    let wanted = doc! { "email": 1, "first_name": 1, "last_name": 1 };
    let batches =
        find(&job.context.database, WatchedCollection::Users.name(), doc! { "_id": { "$in": &users } }, wanted).await?;
    let mut found: HashMap<UserId, Result<Recipient, &'static str>> =
        users.into_iter().map(|user| (user, Err("no_user"))).collect();
    for document in documents(&batches) {
        let document = document?;
        if let Ok(id) = document.get_object_id("_id").map(UserId) {
            found.insert(id, recipient(id, document).ok_or("no_address"));
        }
    }
    Ok(found)
}

fn recipient(id: UserId, user: &RawDocument) -> Option<Recipient> {
    let text = |name| value::text(value::field(user, name)).map(clean);
    let names: Vec<String> = ["first_name", "last_name"].into_iter().filter_map(text).collect();
    Some(Recipient { id, name: names.join(" "), to: address(value::text(value::field(user, "email"))?)? })
}

/// A message to this recipient about these offers, grouped by establishment.
pub(super) fn email(job: &JobContext, template: Template, recipient: &Recipient, subjects: &[&Subject]) -> Email {
    let settings = &job.context.settings;
    let links = Links::new(&settings.mail.links, &settings.target.public_url, job.now);
    let mut establishments: Vec<Establishment> = Vec::new();
    for subject in subjects {
        let offer = with_links(subject, template, recipient, links);
        let known = establishments.iter_mut().find(|known| known.name == subject.establishment);
        match known {
            Some(known) => known.offers.push(offer),
            None => {
                establishments.push(Establishment { name: subject.establishment.clone(), offers: vec![offer] });
            }
        }
    }
    let footer = Footer {
        sender: settings.mail.sender.clone(),
        contact: settings.mail.contact.clone(),
        privacy: links.privacy(),
    };
    Email { template, person: recipient.name.clone(), establishments, space: links.space(), now: job.now, footer }
}

fn with_links(subject: &Subject, template: Template, recipient: &Recipient, links: Links<'_>) -> EmailOffer {
    let address = recipient.to.to_string();
    let user = LinkUser { id: recipient.id, address: &address };
    let establishment = subject.establishment_id.as_deref().filter(|_| template == Template::Introduction);
    EmailOffer {
        cancel: links.cancel(user, subject.id),
        provided: links.provided(user, subject.id),
        introduction: establishment.and_then(|establishment| links.introduction(user, subject.id, establishment)),
        ..subject.offer.clone()
    }
}

/// The mailer of a run. `None` in a dry run. `None` also where a setting is wrong, and then the run has given up.
pub(super) async fn mailer(job: &mut JobContext) -> Option<Mailer> {
    let access = job.write_access.as_mut()?;
    // `smtp.rate` bounds what the run writes.
    access.pace = RunPace::default();
    let writer = access.fence.writer.clone();
    if let Err(failure) = outbox::prepare(&job.context.database).await {
        // Without the indexes, messages are sent all the same.
        tracing::warn!(error = %failure, "old messages are not deleted: the user may not create the indexes of the outbox");
    }
    match Mailer::open(&job.context, writer, job.now, job.stop.clone()) {
        Ok(mailer) => Some(mailer),
        Err(reason) => {
            tracing::error!(error = reason, "e-mail cannot be sent; correct the setting");
            job.report.gave_up = Some("mail_settings".into());
            None
        }
    }
}

/// Sends messages. Returns the offers of the sent messages, and reports the other offers.
pub(super) async fn send(
    job: &mut JobContext,
    mailer: &Mailer,
    items: Vec<MailItem>,
) -> Result<Vec<JobId>, Unfinished> {
    job.check()?;
    let dealt = mailer.send(items).await?;
    Ok(report(job, mailer, dealt))
}

/// Ends the sending of a run whose job returned `outcome`: decides and reports the refusals that are still undecided,
/// and closes the connections.
pub(super) async fn conclude(
    job: &mut JobContext,
    mailer: &Mailer,
    outcome: Result<(), Unfinished>,
) -> Result<(), Unfinished> {
    let concluded = match outcome {
        // An interrupted run decides nothing: its open refusals count against no recipient.
        Err(cause) => Err(cause),
        Ok(()) => mailer.conclude().await.map(|dealt| drop(report(job, mailer, dealt))),
    };
    mailer.close().await;
    concluded
}

fn report(job: &mut JobContext, mailer: &Mailer, dealt: Vec<Dealt>) -> Vec<JobId> {
    let mut sent = Vec::new();
    for Dealt { offers, outcome } in dealt {
        let count = offers.len() as u64;
        match outcome {
            DeliveryOutcome::Sent => {
                sent.extend(offers);
                continue;
            }
            DeliveryOutcome::Written => job.report.skip("written_to_folder", count),
            DeliveryOutcome::Taken => job.report.skip("taken_by_another_instance", count),
            DeliveryOutcome::Refused
            | DeliveryOutcome::Unsendable
            | DeliveryOutcome::Deferred
            | DeliveryOutcome::Unconfirmed => job.report.failed += count,
        }
        job.report.matched += count;
        for offer in offers {
            job.tell(ReportLine::new(offer, outcome.name(), [""; 0]));
        }
        if outcome == DeliveryOutcome::Deferred {
            job.report.gave_up = Some("mail_deferred".into());
        }
    }
    if let Some(reason) = mailer.reason_of_end() {
        job.report.gave_up = Some(reason.into());
    }
    sent
}

/// Reports an offer that is left unchanged for this reason.
pub(super) fn leave(job: &mut JobContext, offer: JobId, reason: &'static str) {
    job.report.matched += 1;
    job.report.skip(reason, 1);
    job.tell(ReportLine::new(offer, reason, [""; 0]));
}
