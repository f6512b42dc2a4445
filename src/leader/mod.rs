//! What the instance that holds the lease does: reads the stream, applies it, saves its position.

pub mod canary;
pub mod checkpoint;
pub mod dropped_sources;
pub mod history;
pub mod interleave;
pub mod lead;
pub mod reader;
pub mod start;
pub mod stream_loop;
pub mod submit;
