//! E-mail (spec 05): what a message says is decided in `compose`, which is pure; `outbox` remembers which ones were sent, so
//! that a crash neither loses one nor sends it three times; `transport` hands them to a mail server or writes them to files.

pub mod compose;
pub mod delivery;
pub mod email;
pub mod mailer;
pub mod outbox;
pub mod reply;
pub mod sample;
mod smtp;
mod standing;
mod template_values;
pub mod transport;
