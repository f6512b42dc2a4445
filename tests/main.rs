//! Black-box tests of the service: one binary, one module per guarantee or feature.
//! They run the real program against a real MongoDB; nothing is mocked.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it says; its clock and environment are the machine's"
)]

mod commands;
mod guarantees;
mod jobs;
mod operations;
mod phases;
mod repository;
mod shipping;
mod stream;
mod support;
mod tidy;
