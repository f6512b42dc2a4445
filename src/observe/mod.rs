//! Metrics, health and history of this instance, for observers of the service. The log and the metric of one fact are
//! written together. Neither ever has a value of a document.

pub(crate) mod exemplar;
pub(crate) mod facts;
pub(crate) mod health;
pub(crate) mod labels;
pub(crate) mod latency;
pub(crate) mod metrics;
mod openmetrics;
mod other_writers_metrics;
pub(crate) mod reachability;
pub(crate) mod readiness;
pub(crate) mod recent_history;
mod registration;
pub(crate) mod repeated_failure;
