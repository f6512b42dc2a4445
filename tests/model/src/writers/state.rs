//! The state: both sides, a write of an application that has one side only, and what the service is about to write.

use stream_processor::inside::Phase;

/// The guards of this part of the protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guards {
    /// A statement has the conditions of the product, not only `_id` and label.
    pub(crate) condition: bool,
    /// In `dual-write` a newer offer is left alone.
    pub(crate) newest_wins: bool,
    /// The mirror writes a recruiter on condition of what it read.
    pub(crate) compare_and_set: bool,
    /// The mirror leaves a newer job alone.
    pub(crate) mirror_newest_wins: bool,
    /// The mirror gives the job the date of the offer, so that its projection equals the offer.
    pub(crate) no_echo: bool,
    /// A step back waits until the mirror has written what it knows of.
    pub(crate) drains: bool,
    /// The mirror looks at every offer when `shadow` begins.
    pub(crate) mirrors_all: bool,
    /// In `shadow` the stream writes no offer.
    pub(crate) phase: bool,
}

impl Guards {
    pub(crate) const ALL: Self = Self {
        condition: true,
        newest_wins: true,
        compare_and_set: true,
        mirror_newest_wins: true,
        no_echo: true,
        drains: true,
        mirrors_all: true,
        phase: true,
    };
}

/// The job as the model knows it. An application gives a title the time of its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(super) title: u8,
    /// `job_update_date`, in tenths of the time of a write.
    pub(super) date: i64,
}

impl Job {
    /// The job after the write of this number.
    pub(super) fn written(number: u8) -> Self {
        Self { title: number, date: i64::from(number) * 10 }
    }
}

/// The sides that applications write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Job,
    Offer,
}

/// What the service has read and is about to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// A statement of the product, by its number.
    Offer(u32),
    /// The mirror makes `after` of the job that it read.
    Job { read: Job, after: Job },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(super) phase: Phase,
    /// True where applications write one side only, the offer.
    pub(super) apps_write_offers_only: bool,
    pub(super) job: Job,
    /// The document of the offer, by its number.
    pub(super) offer: u32,
    /// The side that a write of an application still has to reach, and the number of the write.
    pub(super) half: Option<(Side, u8)>,
    /// The number of writes of applications so far; the last one is the newest.
    pub(super) writes: u8,
    /// The number of the last closing of the offer by somebody else; 0 for none. Only in `sync`.
    pub(super) closed: u8,
    pub(super) kills: u8,
    /// True if the newest write reached the offer alone, in a phase that does not mirror, and no other phase came since.
    pub(super) newest_is_alone: bool,
    /// Unread events of either side.
    pub(super) job_event: bool,
    pub(super) offer_event: bool,
    pub(super) work: Option<Work>,
    pub(super) steps: u8,
    /// True once the service wrote a side that said the same already.
    pub(super) echoed: bool,
}
