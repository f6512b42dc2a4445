//! What a command waits for before it is carried out, what the person is told of it, and what refuses the command.

use std::time::Instant;

use mongodb::Database;

use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::instances::{self, StoredInstance};
use crate::leader::halt::StoredHalt;
use crate::leader::pause::StoredPause;
use crate::maintenance::stored_commands::{Command, Lane};
use crate::mongo::server_clock::server_time;
use crate::progress::tell;
use crate::refusal::{Exit, Refusal};

/// What the person who waits for a command was told. Each is told once.
#[derive(Debug, Default)]
pub(super) struct Told {
    leader: bool,
    halt: bool,
    pause: bool,
}

impl Told {
    /// Nothing is to be told of a pause for a command of the control: it is carried out all the same.
    pub(super) fn new(command: &Command) -> Self {
        Self { pause: command.lane() == Lane::Control, ..Self::default() }
    }

    /// Tells who carries the command out, and what keeps the leader from that.
    pub(super) async fn tell(&mut self, database: &Database, leader: &str) -> Result<(), Failure> {
        if !self.halt && StoredHalt::read(database).await?.is_some() {
            self.halt = true;
            tell(&format!(
                "the leader {leader} is halted, because the position of the stream is lost: the command goes on after \
                 `stream-processor resume --reason TEXT`"
            ));
        } else if !self.leader && !self.halt {
            self.leader = true;
            tell(&format!("the leader {leader} carries out the command"));
        }
        if !self.pause && StoredPause::read(database).await?.is_some() {
            self.pause = true;
            tell("the service is paused: the command goes on after `stream-processor resume --reason TEXT`");
        }
        Ok(())
    }
}

/// The wait for an instance that stands by: it is about to lead, and a command that took the lease first would keep it from
/// the stream until the command ends.
#[derive(Debug, Default)]
pub(super) struct Succession {
    since: Option<Instant>,
}

impl Succession {
    /// True while an instance stands by, for twice the duration of a lease. Then it is not going to lead.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn awaits(&mut self, context: &Context) -> Result<bool, Failure> {
        let patience = 2 * context.settings.lease.duration;
        if self.since.is_some_and(|since| clock::instant() > since + patience) {
            return Ok(false);
        }
        let (now, all) = (server_time(&context.database).await?, instances::read(&context.database).await?);
        let stands_by = |instance: &StoredInstance| instance.role == "standby" && !instance.is_silent(now);
        let Some(standby) = all.into_iter().find(stands_by) else { return Ok(false) };
        if self.since.is_none() {
            self.since = Some(clock::instant());
            tell(&format!("{} stands by and leads soon: it carries out the command", standby.name));
        }
        Ok(true)
    }
}

/// A halted leader does nothing but wait for `resume`, so it takes up no other command.
pub(crate) async fn refuse_while_halted(context: &Context) -> Result<(), Refusal> {
    match StoredHalt::read(&context.database).await? {
        Some(halted) => {
            let message = format!(
                "{} is halted and writes nothing: {}; `stream-processor resume --reason TEXT` lets it go on",
                halted.instance, halted.cause
            );
            Err(Refusal::new(Exit::Findings, message))
        }
        None => Ok(()),
    }
}

/// Refuses a command that may write offers, or change what is written, while the service is paused.
pub(super) async fn refuse_while_paused(context: &Context, command: &Command) -> Result<(), Refusal> {
    let is_paused = command.lane() != Lane::Control && StoredPause::read(&context.database).await?.is_some();
    if is_paused { Err(paused()) } else { Ok(()) }
}

pub(super) fn paused() -> Refusal {
    let message = "the service is paused: `stream-processor status` shows who paused it and why, and \
        `stream-processor resume --reason TEXT` ends the pause";
    Refusal::new(Exit::Findings, message)
}
