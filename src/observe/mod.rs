//! What the outside sees of the service: metrics, facts in the log, health. Logs and metrics of one
//! fact are written together; neither ever carries a value of a document.

pub(crate) mod facts;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod labels;
pub(crate) mod metrics;
