//! The project's own tools as a library: the MongoDB that the demo and the tests need, processes that
//! do not outlive their parent, and the golden documents.
//! For developers and CI only; nothing of it is in the service.
#![allow(
    clippy::disallowed_methods,
    reason = "a developer's tool: it reads the environment and the clock of the machine that it runs on"
)]

pub mod debian;
pub mod golden;
pub mod guarded;
pub mod mongod;
pub mod python;
