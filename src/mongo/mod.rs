//! MongoDB as it is reached: the connection, reads and their deadlines, the server's clock and oplog. The only folder that
//! knows the corners of the driver.

pub mod causal;
pub mod connect;
pub mod deadline;
pub mod oplog;
pub mod primary_changes;
pub mod reads;
pub mod server_clock;
