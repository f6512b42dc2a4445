//! A random sample of the touched recruiters, in constant memory. The continuous verification takes the sample.
//! The pipeline fills the sample and must not wait for the verification.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::model::ids::RecruiterId;

/// A random sample of the recruiters that were touched since the sample was last taken.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// The greatest number of recruiters in the sample.
    size: usize,
    sample: Mutex<RecruiterSample>,
}

#[derive(Debug, Default)]
struct RecruiterSample {
    recruiters: Vec<RecruiterId>,
    /// The number of touches since the sample was last taken.
    touched: usize,
}

impl Sampler {
    /// Makes an empty sample of at most `size` recruiters.
    #[must_use]
    pub(crate) fn new(size: usize) -> Self {
        Self { size, sample: Mutex::default() }
    }

    /// Adds recruiters that were touched and whose offers are written. Each recruiter has the same chance to be in the
    /// sample, whenever it came (reservoir sampling, algorithm R).
    pub(crate) fn touched(&self, recruiters: impl Iterator<Item = RecruiterId>) {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        for recruiter in recruiters {
            sample.touched += 1;
            if sample.recruiters.len() < self.size {
                sample.recruiters.push(recruiter);
            } else {
                let place = rand::random_range(0..sample.touched);
                if let Some(one) = sample.recruiters.get_mut(place) {
                    *one = recruiter;
                }
            }
        }
    }

    /// Takes the sample and begins a new one.
    #[must_use]
    pub(crate) fn take(&self) -> BTreeSet<RecruiterId> {
        let sample = std::mem::take(&mut *self.sample.lock().unwrap_or_else(PoisonError::into_inner));
        sample.recruiters.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;

    use super::*;

    fn recruiter(number: u32) -> RecruiterId {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        RecruiterId(ObjectId::from_bytes(bytes))
    }

    #[test]
    fn few_are_all_in_the_sample_and_it_begins_anew_once_it_was_taken() {
        let sampler = Sampler::new(10);
        sampler.touched((0..4).map(recruiter));
        sampler.touched((2..6).map(recruiter));
        assert_eq!(sampler.take(), (0..6).map(recruiter).collect());
        assert!(sampler.take().is_empty());
    }

    #[test]
    fn of_many_the_sample_holds_no_more_than_its_size_and_late_ones_as_well_as_early_ones() {
        let sampler = Sampler::new(1_000);
        (0..100).for_each(|chunk| sampler.touched((chunk * 1_000..(chunk + 1) * 1_000).map(recruiter)));
        let sample = sampler.take();
        assert_eq!(sample.len(), 1_000);
        // Half are expected on each side; chance alone gives fewer than 350 about once in 10^21 runs.
        let late = sample.iter().filter(|id| **id >= recruiter(50_000)).count();
        assert!((350..=650).contains(&late), "{late} of the later half");
    }
}
