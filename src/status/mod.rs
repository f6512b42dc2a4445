//! What the service says of itself: facts from the database and from this process, put together.

pub mod counts;
pub mod document;
pub mod survey;
mod time;
