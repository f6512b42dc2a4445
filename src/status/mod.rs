//! What the service says of itself: facts from the database and from this process, put together.

pub(crate) mod counts;
pub(crate) mod document;
pub(crate) mod survey;
mod time;
