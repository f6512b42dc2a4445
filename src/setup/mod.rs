//! The command `setup`. It reads the state of the database, plans the missing steps and takes them one by one. `--down`
//! takes back the changes of `setup`. Each step may be repeated after a crash. `--down` holds the lease, because a
//! running instance would write again the fields that are being removed.

pub mod inspect;
pub mod new_fields;
pub mod plan;
mod progress;
mod record;
pub mod validator;

use std::time::Duration;

use bson::{Bson, Document, doc};
use clap::Args;
use mongodb::Database;
use mongodb::error::Error as MongoError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::inspect::{could_not, inspect};
use self::plan::SetupStep;
use self::progress::Progress;
use self::record::Memory;
use crate::context::Context;
use crate::counted::counted;
use crate::error::{Directive, Failure, command_code};
use crate::interruption::{Interruption, Unfinished};
use crate::json_output::JsonForm;
use crate::leader::lead;
use crate::model::names::OFFERS;
use crate::model::names::SETUP;
use crate::mongo::reads::collection;
use crate::progress::tell;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::retry::Delays;
use crate::target;
use crate::tasks::{Group, Task};
use crate::write::lease_check::Validity;

/// The server's codes `NamespaceNotFound` and `IndexNotFound`: the index is already gone.
const ALREADY_GONE: [i32; 2] = [26, 27];
/// The server's code `NamespaceExists`: the collection already exists.
const EXISTS: i32 = 48;

/// Arguments of `setup`.
#[derive(Debug, Args)]
pub struct SetupArguments {
    /// Print the steps, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Remove what `setup` added.
    #[arg(long)]
    pub down: bool,
    /// Print the steps as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command and prints its steps on standard output.
///
/// # Errors
/// A [`Refusal`] when an instance is running (`--down`), when an earlier `setup` was done for another
/// `target.partner_label`, or when the server refuses a step or some of the offers.
pub async fn setup(context: Context, arguments: SetupArguments) -> Result<Exit, Refusal> {
    let configured = &context.settings.target.partner_label;
    let memory = Memory::load(&context.database).await?;
    let is_done = memory.is_some();
    // `--down` takes back the changes under the label of the earlier `setup`, whatever the configuration says now.
    let label = memory.map_or_else(|| configured.clone(), |memory| memory.partner_label);
    if !arguments.down && label != *configured {
        let message = format!(
            "an earlier setup was for offers of `{label}`, but target.partner_label is `{configured}`: correct it, or \
             undo the earlier setup with setup --down"
        );
        return Err(Refusal::new(Exit::Findings, message));
    }
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    let validator = target::validator(&context.database).await?;
    if validator.is_in_force() {
        let action = validator.action;
        tell(&format!("the validator of {OFFERS} has the action {action}: {}", target::meaning(action)));
    }
    if arguments.dry_run {
        let steps = steps(&context.database, &label, arguments.down).await?;
        let told = StepReport { json: arguments.json, dry_run: true };
        steps.iter().for_each(|step| told.say(&format!("would {step}")));
        told.at_end(&steps);
        return Ok(Exit::Done);
    }
    group.spawn(Task::Signals, crate::tasks::signals(group.stop.clone()));
    let told = StepReport { json: arguments.json, dry_run: false };
    let mut setup = Setup {
        database: Database::clone(&context.database),
        label,
        stop: group.stop.clone(),
        validity: None,
        refused: 0,
        told,
    };
    // Without changes to take back, the lease is not needed and would only leave its document in the database.
    if !arguments.down || !is_done {
        return setup.all(arguments.down).await;
    }
    let beside = "would write the removed fields again: stop all instances first";
    let (lease, validity) = lead::hold(&context, beside, &mut group).await?;
    setup.validity = Some(validity);
    let done = setup.all(true).await;
    lead::release_lease(&lease, &group).await;
    done
}

async fn steps(database: &Database, label: &str, is_down: bool) -> Result<Vec<SetupStep>, Refusal> {
    let found = inspect(database, label).await?;
    Ok(if is_down { plan::down(&found) } else { plan::up(&found) })
}

/// The work of one pass over our offers.
#[derive(Debug, Clone, Copy)]
enum FieldPass {
    Remember,
    Add,
    Remove,
}

struct Setup {
    database: Database,
    label: String,
    stop: CancellationToken,
    /// How long the lease is still valid; `None` when the command needs no lease.
    validity: Option<watch::Receiver<Validity>>,
    /// Offers that the server refused to change.
    refused: u64,
    told: StepReport,
}

impl Setup {
    async fn all(&mut self, is_down: bool) -> Result<Exit, Refusal> {
        let steps = steps(&self.database, &self.label, is_down).await?;
        for step in &steps {
            if self.stop.is_cancelled() || !self.take(step).await? {
                self.told.say("run the command again to continue");
                return Ok(Exit::Interrupted);
            }
            self.told.say(&format!("done: {step}"));
            if self.refused > 0 {
                return Err(Refusal::new(
                    Exit::Findings,
                    format!(
                        "the validator of {OFFERS} refused to change {}: correct them, then run setup again",
                        counted(self.refused, "offer", "offers")
                    ),
                ));
            }
        }
        self.told.at_end(&steps);
        Ok(Exit::Done)
    }

    /// Takes one step; false when it was interrupted. A change is remembered before it is made.
    async fn take(&mut self, step: &SetupStep) -> Result<bool, Refusal> {
        self.check_lease()?;
        match step {
            SetupStep::CreateCollections(names) => self.create_collections(names).await?,
            SetupStep::AllowFields(names) => self.allow(names).await?,
            SetupStep::CreateIndexes(collection, indexes) => self.create_indexes(collection, indexes).await?,
            SetupStep::Remember(offers) => {
                // The documents of an interrupted pass are useless: the pass begins again with the first offer.
                collection(&self.database, SETUP).delete_many(doc! {}).await.map_err(Failure::Write)?;
                if !self.pass(FieldPass::Remember, *offers).await? {
                    return Ok(false);
                }
                self.store(doc! {}, doc! { "remembered": true }).await?;
            }
            SetupStep::AddFields(offers) => {
                self.store(doc! {}, doc! { "added": true }).await?;
                return self.pass(FieldPass::Add, *offers).await;
            }
            SetupStep::RemoveFields { offers, .. } => return self.pass(FieldPass::Remove, *offers).await,
            SetupStep::RefuseFields(names) => {
                let current = target::validator(&self.database).await?.rules;
                self.set_validator(validator::refusing_again(current, names)).await?;
            }
            SetupStep::DropIndex(indexed, name) => {
                let dropped = collection(&self.database, indexed).drop_index(name).await;
                unless(&ALREADY_GONE, dropped).map_err(|error| could_not(&step.to_string(), &error))?;
            }
            SetupStep::DropCollection(name) => {
                let dropped = collection(&self.database, name).drop().await;
                dropped.map_err(|error| could_not(&step.to_string(), &error))?;
            }
            SetupStep::LeaveTarget => {}
            SetupStep::Forget => record::forget(&self.database).await?,
        }
        Ok(true)
    }

    async fn create_collections(&self, names: &[&str]) -> Result<(), Refusal> {
        self.store(doc! { "collections": names.to_vec() }, doc! {}).await?;
        for name in names {
            // The call of `store` above has already created the collection of the memory.
            let created = self.database.create_collection(*name).await;
            unless(&[EXISTS], created).map_err(|error| could_not(&format!("create {name}"), &error))?;
        }
        Ok(())
    }

    async fn create_indexes(&self, collection: &'static str, indexes: &[Document]) -> Result<(), Refusal> {
        let step = SetupStep::CreateIndexes(collection, indexes.to_vec());
        let named = |keys: &Document| doc! { "collection": collection, "name": plan::index_name(keys) };
        let remembered: Vec<Bson> = indexes.iter().map(|keys| named(keys).into()).collect();
        self.store(doc! { "indexes": remembered }, doc! {}).await?;
        let models: Vec<Document> =
            indexes.iter().map(|keys| doc! { "key": keys.clone(), "name": plan::index_name(keys) }).collect();
        // One command for all indexes is one pass over the collection. Other writers go on meanwhile (MongoDB manual,
        // "Index Builds on Populated Collections").
        let command = doc! { "createIndexes": collection, "indexes": models, "writeConcern": { "w": "majority" } };
        let created = progress::while_waiting(&step, self.database.run_command(command)).await;
        created.map_err(|error| could_not(&step.to_string(), &error))?;
        Ok(())
    }

    async fn allow(&self, names: &[&str]) -> Result<(), Refusal> {
        self.store(doc! { "allowed": names.to_vec() }, doc! {}).await?;
        let current = target::validator(&self.database).await?.rules;
        self.set_validator(validator::allowing(current, names)).await
    }

    /// Replaces the validator of `jobs_partners`. The server keeps the validation's level and action, which the command
    /// does not name (MongoDB manual, "collMod"). Where the collection did not name them either, the server stores its
    /// defaults, and nothing can undo that.
    async fn set_validator(&self, validator: Document) -> Result<(), Refusal> {
        let command = doc! { "collMod": OFFERS, "validator": validator, "writeConcern": { "w": "majority" } };
        let changed = self.database.run_command(command).await;
        changed.map_err(|error| could_not(&format!("change the validator of {OFFERS}"), &error))?;
        Ok(())
    }

    async fn store(&self, lists: Document, flags: Document) -> Result<(), Failure> {
        record::store(&self.database, &self.label, lists, flags).await
    }

    /// Goes through the offers in chunks; false when it was interrupted. `offers` is their expected number, for the
    /// progress only.
    async fn pass(&mut self, pass: FieldPass, offers: u64) -> Result<bool, Refusal> {
        let (database, label) = (&self.database, &self.label);
        let mut progress = Progress::begin(offers);
        let mut delays = Delays::up_to(Duration::from_secs(5));
        let mut after = None;
        while !self.stop.is_cancelled() {
            self.check_lease()?;
            let chunk = match pass {
                FieldPass::Remember => new_fields::remember(database, label, after).await.map_err(Unfinished::from),
                FieldPass::Add => new_fields::add(database, label, after).await,
                FieldPass::Remove => new_fields::remove(database, label, after).await,
            };
            match chunk {
                Ok(Some(chunk)) => {
                    after = Some(chunk.last);
                    self.refused += chunk.refused;
                    progress.add(chunk.offers);
                    delays.reset();
                }
                Ok(None) => {
                    return Ok(true);
                }
                // `after` still names the chunk before, so the failed chunk is repeated.
                Err(Unfinished::Failed(failure)) if failure.directive() == Directive::Retry => {
                    tracing::warn!(error = %failure, "an attempt failed; retrying");
                    tokio::time::sleep(delays.next_delay()).await;
                }
                Err(unfinished) => return Err(unfinished.into()),
            }
        }
        Ok(false)
    }

    fn check_lease(&self) -> Result<(), Unfinished> {
        match &self.validity {
            Some(validity) if validity.borrow().left().is_zero() => Err(Interruption::LeaseLost.into()),
            _ => Ok(()),
        }
    }
}

/// Turns an error with one of these codes into success: such an error says that there is nothing left to do.
fn unless(codes: &[i32], result: Result<(), MongoError>) -> Result<(), MongoError> {
    result.or_else(|error| match command_code(&error) {
        Some(code) if codes.contains(&code) => Ok(()),
        _ => Err(error),
    })
}

/// The way in which the steps are printed: one by one as text, or all at the end as JSON.
#[derive(Debug, Clone, Copy)]
struct StepReport {
    json: bool,
    dry_run: bool,
}

impl StepReport {
    #[expect(clippy::print_stdout, reason = "the output of the command")]
    fn say(self, line: &str) {
        if !self.json {
            println!("{line}");
        }
    }

    /// Prints the end of the report: as JSON all `steps` that were taken, as text only that there was nothing to do.
    #[expect(clippy::print_stdout, reason = "the output of the command")]
    fn at_end(self, steps: &[SetupStep]) {
        if self.json {
            let steps: Vec<String> = steps.iter().map(SetupStep::to_string).collect();
            JsonForm::Setup.print(serde_json::json!({ "dry_run": self.dry_run, "steps": steps }));
        } else if steps.is_empty() {
            println!("nothing to do");
        }
    }
}
