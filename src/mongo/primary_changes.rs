//! Detects changes of the primary, and remembers why the driver did not reach a member. The cursor of a change stream stays at the member where it was opened. When that
//! member steps down, the cursor would go on reading from a secondary, which may be behind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mongodb::ServerType;
use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;

use crate::error::describe;

/// Counts how often the driver saw a member become the primary, and keeps the last failure to reach a member.
#[derive(Debug, Clone, Default)]
pub struct PrimaryChanges {
    found: Arc<AtomicU64>,
    unreached: Arc<Mutex<Option<String>>>,
}

impl PrimaryChanges {
    /// The callback for the driver's events about the members of the replica set.
    #[must_use]
    pub fn handler(&self) -> EventHandler<SdamEvent> {
        let (found, unreached) = (Arc::clone(&self.found), Arc::clone(&self.unreached));
        let is_found = |event: &SdamEvent| match event {
            SdamEvent::ServerDescriptionChanged(change) => {
                change.new_description.server_type() == ServerType::RsPrimary
                    && change.previous_description.server_type() != ServerType::RsPrimary
            }
            _ => false,
        };
        EventHandler::callback(move |event| {
            if is_found(&event) {
                found.fetch_add(1, Ordering::Relaxed);
            }
            // A panic in another task poisons the lock, but the plain value behind it is still valid.
            let keep = |last| *unreached.lock().unwrap_or_else(PoisonError::into_inner) = last;
            match event {
                SdamEvent::ServerHeartbeatSucceeded(_) => keep(None),
                SdamEvent::ServerHeartbeatFailed(failed) => {
                    keep(Some(format!("{}: {}", failed.server_address, describe(&failed.failure))));
                }
                _ => {}
            }
        })
    }

    /// The number of primaries found so far. A higher number than before means that the primary may have changed.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// Why the driver did not reach a member at its last attempt, with the address; `None` while it reaches one.
    #[must_use]
    pub(crate) fn unreached(&self) -> Option<String> {
        self.unreached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
