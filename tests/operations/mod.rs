//! What is seen from outside: HTTP, page, alerts, verification.

mod alerts;
mod continuous_verification;
mod dashboard;
mod error_reports;
mod evaluation;
mod foreign_writes;
mod http_bounds;
mod inhibition;
mod instances;
mod openmetrics;
mod page_states;
mod reload;
mod runbook;
mod running_work;
mod status_page;
mod systemd;
mod throttle;
mod tls;
mod traces;
mod verdict;
mod verification;
mod verification_beside_writes;
mod verification_in_portions;
