//! The throttle: it slows the work beside the stream, and far later the stream, while the server is under pressure, and
//! keeps to the ceiling of writes. It only says how long to wait; the pipeline waits between its steps and batches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::config::ThrottleSettings;
use crate::observe::labels::LabelValue;

/// The shortest time between two steps while the server is under pressure. It is no full stop, because a resync must end.
const BETWEEN_STEPS: Duration = Duration::from_secs(5);
/// The time before each batch of the stream while it is slowed too.
const BEFORE_BATCH: Duration = Duration::from_secs(1);
/// The factor of the limits from which the stream is slowed too.
const STREAM_FACTOR: u32 = 4;
/// The time for which every measure must be below its limit before the work is not slowed any more.
const CALM: Duration = Duration::from_secs(10);
/// The longest time for which steps make up for the writes of the stream. A burst of events must not hold them up for hours.
const LONGEST_STREAM_DEBT: Duration = Duration::from_secs(60);
/// The part of the ceiling, one in so many, that steps have whatever the stream writes: gaps and resyncs must end.
const STEP_SHARE: u32 = 10;

/// A measure of the pressure on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// The time that a majority of the members is behind the primary.
    ReplicationLag,
    /// The time of a small write, until a majority has it.
    WriteLatency,
}

impl Pressure {
    pub(crate) const ALL: [Self; 2] = [Self::ReplicationLag, Self::WriteLatency];

    /// The word in JSON, in the metric and in the timeline.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ReplicationLag => "replication_lag",
            Self::WriteLatency => "write_latency",
        }
    }

    /// The words for people.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ReplicationLag => "replication lag",
            Self::WriteLatency => "write latency",
        }
    }
}

impl LabelValue for Pressure {
    fn label(self) -> &'static str {
        self.word()
    }
}

/// Why work is slowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slowed {
    pub pressure: Pressure,
    /// The greatest value of the measure lately.
    pub value: Duration,
    /// True if the stream is slowed too.
    pub stream: bool,
}

impl Slowed {
    /// The reason in words, such as `slowed: replication lag 14 s`.
    #[must_use]
    pub(crate) fn text(self) -> String {
        let value = match self.value.as_secs() {
            0 => format!("{} ms", self.value.as_millis()),
            seconds => format!("{seconds} s"),
        };
        let what = if self.stream { "slowed, the stream too" } else { "slowed" };
        format!("{what}: {} {value}", self.pressure.name())
    }
}

/// The begin or the end of a slowed time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ThrottleChange {
    Began(Slowed),
    Ended {
        /// The length of the time.
        lasted: Duration,
    },
}

/// The throttle of one leadership. Clones share it. The default one slows nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Throttle(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The ceiling of the configuration in writes per second; `None` without one.
    configured: Option<u32>,
    /// The ceiling that an operator ordered; `None` where the configuration decides.
    ordered: Option<u32>,
    /// The last known values of the measures, in the order of [`Pressure::ALL`].
    measures: [Option<Duration>; 2],
    /// The time from which all writes are made up for, so that the ceiling allows another step.
    free_at: Option<Instant>,
    /// The time from which another step is due, whatever the stream writes: the steps have had their share until then.
    share_at: Option<Instant>,
    /// The beginning of the last step.
    stepped: Option<Instant>,
    slowed: Option<Slowing>,
}

impl State {
    fn ceiling(&self) -> Option<u32> {
        self.ordered.or(self.configured)
    }

    /// The time that so many writes take at the ceiling; `None` without one.
    fn time_for(&self, writes: u64) -> Option<Duration> {
        let writes = u32::try_from(writes).unwrap_or(u32::MAX);
        self.ceiling().map(|ceiling| Duration::from_secs(1).saturating_mul(writes) / ceiling)
    }

    /// The time from which the ceiling allows another step; `None` when one is allowed.
    fn next_step(&self) -> Option<Instant> {
        self.ceiling()?;
        Some(self.free_at?.min(self.share_at?))
    }
}

#[derive(Debug)]
struct Slowing {
    what: Slowed,
    since: Instant,
    /// The last time at which a measure was above its limit.
    last: Instant,
}

impl Throttle {
    fn held(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The throttle with this configuration and this order of an operator.
    #[must_use]
    pub(crate) fn of(settings: &ThrottleSettings, ordered: Option<u32>) -> Self {
        let configured = Some(settings.max_writes_per_second).filter(|ceiling| *ceiling > 0);
        Self(Arc::new(Mutex::new(State { configured, ordered, ..State::default() })))
    }

    /// Takes the ceiling that an operator orders, in writes per second; `None` lets the configuration decide.
    pub(crate) fn order(&self, ordered: Option<u32>) {
        let mut state = self.held();
        state.ordered = ordered;
        (state.free_at, state.share_at) = (None, None);
    }

    /// The ceiling in writes per second; `None` without one.
    #[must_use]
    pub(crate) fn ceiling(&self) -> Option<u32> {
        self.held().ceiling()
    }

    /// Counts the documents that a step wrote against the ceiling. The next step waits until all of them are made up for.
    pub(crate) fn step_wrote(&self, writes: u64) {
        let mut state = self.held();
        let (Some(took), now) = (state.time_for(writes), clock::instant()) else { return };
        state.free_at = Some(state.free_at.unwrap_or(now).max(now) + took);
        state.share_at = Some(state.share_at.unwrap_or(now).max(now) + took.saturating_mul(STEP_SHARE));
    }

    /// Counts the documents that the stream wrote against the ceiling. They hold up the steps, within limits.
    pub(crate) fn stream_wrote(&self, writes: u64) {
        let mut state = self.held();
        let (Some(took), now) = (state.time_for(writes), clock::instant()) else { return };
        let free_at = state.free_at.unwrap_or(now).max(now);
        state.free_at = Some(free_at.max((free_at + took).min(now + LONGEST_STREAM_DEBT)));
    }

    /// Notes that a step beside the stream begins.
    pub(crate) fn steps(&self) {
        self.held().stepped = Some(clock::instant());
    }

    /// The time until the next step beside the stream.
    #[must_use]
    pub(crate) fn until_step(&self) -> Duration {
        let state = self.held();
        let now = clock::instant();
        let slowed = state.slowed.as_ref().and(state.stepped).map(|stepped| stepped + BETWEEN_STEPS);
        let next = slowed.max(state.next_step());
        next.map(|next| next.saturating_duration_since(now)).unwrap_or_default()
    }

    /// The time until the ceiling allows the next step beside the stream, whatever the pressure.
    #[must_use]
    pub(crate) fn until_allowed(&self) -> Duration {
        self.held().next_step().map(|next| next.saturating_duration_since(clock::instant())).unwrap_or_default()
    }

    /// The time to wait before the next batch of the stream.
    #[must_use]
    pub(crate) fn before_batch(&self) -> Duration {
        match &self.held().slowed {
            Some(slowing) if slowing.what.stream => BEFORE_BATCH,
            _ => Duration::ZERO,
        }
    }

    /// The greatest number of documents of one step: those of a second, so that a step does not exceed the ceiling by much.
    #[must_use]
    pub(crate) fn step_size(&self, usual: u32) -> u32 {
        self.held().ceiling().map_or(usual, |ceiling| ceiling.clamp(1, usual))
    }

    /// Why work is slowed now; `None` while it is not.
    #[must_use]
    pub(crate) fn slowed(&self) -> Option<Slowed> {
        self.held().slowed.as_ref().map(|slowing| slowing.what)
    }

    /// Ends the slowed time with the leadership. Returns its length; `None` where work is not slowed.
    pub(crate) fn end_slowed(&self, now: Instant) -> Option<Duration> {
        self.held().slowed.take().map(|slowing| now.saturating_duration_since(slowing.since))
    }

    /// Judges new measures. One that is unknown now, `None`, counts as it was last known: a server that does not answer is
    /// not calm. Returns what changed.
    pub(crate) fn judge(
        &self,
        settings: &ThrottleSettings,
        lag: Option<Duration>,
        latency: Option<Duration>,
        now: Instant,
    ) -> Option<ThrottleChange> {
        let mut state = self.held();
        state.measures = [lag.or(state.measures[0]), latency.or(state.measures[1])];
        let limits = [settings.max_replication_lag, settings.max_write_latency];
        let mut measures = Pressure::ALL.into_iter().zip(state.measures).zip(limits);
        let above = measures.find_map(|((pressure, value), limit)| {
            let value = value.filter(|value| *value > limit)?;
            Some(Slowed { pressure, value, stream: value > limit.saturating_mul(STREAM_FACTOR) })
        });
        match (above, &mut state.slowed) {
            (Some(what), Some(slowing)) => {
                (slowing.what, slowing.last) = (what, now);
                None
            }
            (Some(what), none) => {
                *none = Some(Slowing { what, since: now, last: now });
                Some(ThrottleChange::Began(what))
            }
            (None, slowed) => {
                let is_calm = |slowing: &mut Slowing| now.saturating_duration_since(slowing.last) >= CALM;
                let ended = slowed.take_if(is_calm)?;
                Some(ThrottleChange::Ended { lasted: now.saturating_duration_since(ended.since) })
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SETTINGS: ThrottleSettings = ThrottleSettings {
        max_writes_per_second: 0,
        max_replication_lag: Duration::from_secs(10),
        max_write_latency: Duration::from_secs(2),
    };

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn pressure_slows_steps_and_far_above_the_limit_the_stream_until_all_is_calm() {
        let (throttle, now) = (Throttle::default(), clock::instant());
        throttle.steps();
        assert_eq!(throttle.judge(&SETTINGS, seconds(10), seconds(2), now), None);
        assert_eq!((throttle.until_step(), throttle.before_batch()), (Duration::ZERO, Duration::ZERO));
        let lagging = Slowed { pressure: Pressure::ReplicationLag, value: Duration::from_secs(11), stream: false };
        assert_eq!(throttle.judge(&SETTINGS, seconds(11), None, now), Some(ThrottleChange::Began(lagging)));
        assert!(throttle.until_step() > Duration::ZERO);
        assert_eq!(throttle.before_batch(), Duration::ZERO);
        assert_eq!(throttle.judge(&SETTINGS, seconds(41), None, now), None);
        assert_eq!(throttle.before_batch(), BEFORE_BATCH);
        let later = now + Duration::from_secs(4);
        assert_eq!(throttle.judge(&SETTINGS, seconds(1), seconds(3), later), None, "another measure is above");
        assert_eq!(throttle.slowed().map(|slowed| slowed.pressure), Some(Pressure::WriteLatency));
        let unknown = later + CALM;
        assert_eq!(throttle.judge(&SETTINGS, seconds(1), None, unknown), None, "unknown is not calm");
        assert_eq!(throttle.judge(&SETTINGS, seconds(1), seconds(1), unknown + CALM / 2), None);
        let ended = ThrottleChange::Ended { lasted: Duration::from_secs(4) + CALM + CALM };
        assert_eq!(throttle.judge(&SETTINGS, None, seconds(1), unknown + CALM), Some(ended));
        assert_eq!((throttle.until_step(), throttle.slowed()), (Duration::ZERO, None));
    }

    #[test]
    fn what_steps_write_is_made_up_for_in_full_and_steps_are_small() {
        let throttle = Throttle::default();
        throttle.step_wrote(1_000);
        assert_eq!((throttle.until_step(), throttle.step_size(500)), (Duration::ZERO, 500));
        throttle.order(Some(100));
        throttle.step_wrote(50_000);
        let wait = throttle.until_step();
        assert!(wait > Duration::from_secs(499) && wait <= Duration::from_secs(500), "{wait:?}");
        assert_eq!(throttle.step_size(500), 100);
        throttle.step_wrote(u64::MAX);
        assert!(throttle.until_step() > Duration::from_secs(499));
        throttle.order(None);
        assert_eq!(throttle.until_step(), Duration::ZERO);
    }

    #[test]
    fn the_stream_holds_steps_up_for_a_while_and_leaves_them_a_share_of_the_ceiling() {
        let throttle = Throttle::default();
        throttle.order(Some(10));
        throttle.stream_wrote(u64::MAX);
        assert_eq!(throttle.until_step(), Duration::ZERO, "no step has had its share");
        throttle.step_wrote(1);
        let wait = throttle.until_step();
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(1),
            "one write has a tenth of the ceiling: {wait:?}"
        );
        throttle.order(Some(10));
        throttle.step_wrote(100);
        throttle.stream_wrote(u64::MAX);
        let wait = throttle.until_step();
        assert!(wait > Duration::from_secs(50) && wait <= LONGEST_STREAM_DEBT, "{wait:?}");
    }
}
