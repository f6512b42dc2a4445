//! Detects changes of the primary. The cursor of a change stream stays at the member where it was opened. When that
//! member steps down, the cursor would go on reading from a secondary, which may be behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mongodb::ServerType;
use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;

/// Counts how often the driver saw a member become the primary.
#[derive(Debug, Clone, Default)]
pub struct PrimaryChanges {
    found: Arc<AtomicU64>,
}

impl PrimaryChanges {
    /// The callback for the driver's events about the members of the replica set.
    #[must_use]
    pub fn handler(&self) -> EventHandler<SdamEvent> {
        let found = Arc::clone(&self.found);
        let is_found = |event: SdamEvent| match event {
            SdamEvent::ServerDescriptionChanged(change) => {
                change.new_description.server_type() == ServerType::RsPrimary
                    && change.previous_description.server_type() != ServerType::RsPrimary
            }
            _ => false,
        };
        EventHandler::callback(move |event| {
            if is_found(event) {
                found.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// The number of primaries found so far. A higher number than before means that the primary may have changed.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }
}
