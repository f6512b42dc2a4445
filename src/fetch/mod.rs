//! FETCH: reads the current documents of recruiters, offers, references and links, in batches with `$in`. The module
//! writes nothing. It keeps no source documents except in the caches of references.

pub(crate) mod chunks;
pub(crate) mod found_reference;
pub(crate) mod job_chunks;
pub(crate) mod links;
pub(crate) mod own_offers;
pub(crate) mod references;

/// The greatest number of ids in one `$in`: spec 03 measured batches of this size.
pub(crate) const IDS_PER_READ: usize = 500;
