//! Notices that another member of the replica set became the primary. The cursor of a change stream goes on at the
//! member where it was opened, also when that steps down: it would then read a secondary, which may be behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mongodb::ServerType;
use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;

/// Counts how often the driver found a primary where it had seen none.
#[derive(Debug, Clone, Default)]
pub struct PrimaryChanges {
    found: Arc<AtomicU64>,
}

impl PrimaryChanges {
    /// What the driver tells of the members.
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

    /// Differs from what it was when a primary was found since.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }
}
