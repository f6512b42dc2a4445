//! The HTTP server: metrics, probes and the status page (spec 06, "HTTP"). It is read-only and shows no personal data.

mod chart;
mod for_people;
mod metrics_format;
mod page;
pub(crate) mod routes;
mod runbook;
pub(crate) mod server;
