//! Black-box tests of the stores and of token decoding: real files and a real MongoDB, nothing mocked.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it says"
)]

mod every_store;
mod file_history;
mod file_store;
mod mongo_store;
mod old_worker;
mod real_tokens;
mod support;
