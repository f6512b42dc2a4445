//! The HTTP side: metrics and probes, read-only (spec 06, "HTTP"). No action, no personal data.

pub mod routes;
