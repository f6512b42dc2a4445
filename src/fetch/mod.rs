//! FETCH: the current documents of recruiters, references and links, in batches with `$in`. Nothing here writes, and
//! nothing here remembers source documents beyond the references' caches.

pub mod chunks;
mod found;
pub mod links;
pub mod references;

/// At most this many ids in one `$in`: the batch that spec 03 measured.
pub const IDS_PER_READ: usize = 500;
