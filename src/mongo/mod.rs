//! The access to MongoDB: the connection, reads and their time limits, the server's clock and oplog. Peculiarities of
//! the driver are handled in this folder.

pub(crate) mod causal;
pub(crate) mod connect;
pub(crate) mod deadline;
pub(crate) mod first_contact;
pub(crate) mod oplog;
pub(crate) mod primary_changes;
pub(crate) mod reads;
pub(crate) mod server_clock;
