//! The library of the project's tools: a MongoDB for the demo and the tests, processes that do not outlive their
//! parent, the golden documents, and the packages of a release. Only developers and CI use it. The service has nothing of
//! it.
#![allow(
    clippy::disallowed_methods,
    reason = "a developer's tool: it reads the environment and the clock of the machine that it runs on"
)]

pub mod cargo;
pub mod debian;
pub mod golden;
pub mod guarded;
pub mod kubernetes;
pub mod mongod;
pub mod npm;
pub mod ports;
pub mod python;
pub mod scrape;
pub mod service;
pub mod shipping;

/// An error that ends a command and is printed.
pub type Failure = Box<dyn std::error::Error>;
