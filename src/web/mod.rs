//! The HTTP side: metrics and probes, read-only (spec 06, "HTTP"). No action, no personal data.

mod chart;
mod page;
pub(crate) mod routes;
pub(crate) mod server;
