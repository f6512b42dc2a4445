//! Splits jobs into job chunks. The number of jobs of a job chunk and the weight of their offers are bounded, so that memory does
//! not grow with the jobs of a recruiter.

use std::iter::Peekable;

/// The greatest number of jobs in a job chunk.
pub(crate) const JOBS: usize = 1_000;
/// The greatest weight of a job chunk of several jobs, in bytes. The jobs of a usual chunk of recruiters fit into one job chunk.
const BYTES: usize = 4 * 1024 * 1024;

/// Job chunks of jobs that come with their weights: the size of the job and of its recruiter's own data, in bytes, because the
/// offer may repeat both.
pub(crate) struct JobChunks<I: Iterator>(Peekable<I>);

impl<I: Iterator<Item = (usize, J)>, J> JobChunks<I> {
    pub(crate) fn of(jobs: I) -> Self {
        Self(jobs.peekable())
    }
}

impl<I: Iterator<Item = (usize, J)>, J> Iterator for JobChunks<I> {
    type Item = Vec<J>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        while let Some((weight, _)) = self.0.peek() {
            bytes += weight;
            if !chunk.is_empty() && (chunk.len() >= JOBS || bytes > BYTES) {
                break;
            }
            chunk.extend(self.0.next().map(|(_, job)| job));
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_chunk_ends_at_its_number_of_jobs_or_at_its_weight_and_has_one_job_at_least() {
        let sizes = |weights: &[usize]| -> Vec<usize> {
            let jobs = weights.iter().enumerate().map(|(number, weight)| (*weight, number));
            JobChunks::of(jobs).map(|chunk| chunk.len()).collect()
        };
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[1; 2 * JOBS + 1]), [JOBS, JOBS, 1]);
        assert_eq!(sizes(&[BYTES / 2; 5]), [2, 2, 1]);
        assert_eq!(sizes(&[BYTES + 1, BYTES + 1, 1]), [1, 1, 1], "one heavy job is a job chunk of its own");
    }
}
