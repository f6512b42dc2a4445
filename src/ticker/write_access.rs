//! The right of a run to write, and the lock that it shares with the stream.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, Notify, watch};

use crate::phase::watcher::Followed;
use crate::write::transaction::Fence;
use crate::write::writer::Validity;

/// The right to write, of who leads.
#[derive(Debug)]
pub struct WriteAccess {
    /// Of its writes and transactions.
    pub fence: Fence,
    /// Until when the lease allows writes.
    pub validity: watch::Receiver<Validity>,
    /// The phase as it was last read from the database.
    pub phase: watch::Receiver<Followed>,
    /// Held by whoever writes offers: the pipeline and the ticker take turns.
    pub offer_write_lock: OfferWriteLock,
    /// Rung when something was stored for the pipeline to do.
    pub wake: Arc<Notify>,
    /// The run in the ledger.
    pub run: String,
    /// When its progress was last stored.
    pub stored_at: Option<Instant>,
}

/// Whoever holds it may write offers. Fair: who waits longest is next.
pub type OfferWriteLock = Arc<Mutex<()>>;
