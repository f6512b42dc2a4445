//! The jobs of the recruiters that a verification has compared without a mismatch. No recruiter is searched again for the offers
//! of these jobs.

use bson::oid::ObjectId;

use crate::model::ids::JobId;

/// The greatest number of remembered jobs. Their ids take six megabytes. For the offers of further jobs, recruiters are searched.
pub(super) const MOST: usize = 500_000;

/// A bounded set of jobs.
#[derive(Debug, Default)]
pub(super) struct HeldJobs {
    jobs: Vec<JobId>,
    is_sorted: bool,
}

impl HeldJobs {
    pub(super) fn extend(&mut self, jobs: impl IntoIterator<Item = JobId>) {
        let before = self.jobs.len();
        self.jobs.extend(jobs.into_iter().take(MOST - before));
        self.is_sorted &= self.jobs.len() == before;
    }

    /// The ids that name no job of this set.
    pub(super) fn without(&mut self, ids: &[ObjectId]) -> Vec<ObjectId> {
        if !self.is_sorted {
            self.jobs.sort_unstable();
            self.is_sorted = true;
        }
        ids.iter().copied().filter(|id| self.jobs.binary_search(&JobId(*id)).is_err()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ObjectId {
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&(number as u64).to_be_bytes());
        ObjectId::from_bytes(bytes)
    }

    #[test]
    fn remembered_jobs_are_left_out_in_whatever_order_they_came_and_further_ones_are_not() {
        let mut held = HeldJobs::default();
        assert_eq!(held.without(&[id(1)]), [id(1)]);
        held.extend([9, 2].map(|number| JobId(id(number))));
        held.extend([JobId(id(5))]);
        assert_eq!(held.without(&[1, 2, 5, 6, 9].map(id)), [1, 6].map(id));
        held.extend((10..MOST + 10).map(|number| JobId(id(number))));
        let (last, first_too_many) = (id(MOST + 6), id(MOST + 7));
        assert_eq!(held.without(&[last, first_too_many]), [first_too_many]);
        held.extend([JobId(first_too_many)]);
        assert_eq!(held.without(&[first_too_many]), [first_too_many]);
    }
}
