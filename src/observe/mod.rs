//! What the outside sees of the service: metrics, facts in the log, health. Logs and metrics of one
//! fact are written together; neither ever carries a value of a document.

pub mod facts;
pub mod health;
pub mod history;
pub mod labels;
pub mod metrics;
