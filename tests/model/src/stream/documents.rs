//! The documents of the platform, what applications do to them, and what the offer must be in the end.

/// The source documents at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Documents {
    pub(super) recruiter: Option<Recruiter>,
    /// True when `anonymized_recruiters` has a copy.
    pub(super) copy: bool,
    pub(super) user: bool,
    /// True when `anonymized_userswithaccounts` has a copy of the user.
    pub(super) user_copy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Recruiter {
    /// The title of its job; each edit gives a later one.
    pub(super) title: u8,
    pub(super) has_job: bool,
}

/// A write of an application, which becomes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Edit,
    RemoveJob,
    AddJob,
    CopyRecruiter,
    DeleteRecruiter,
    CopyUser,
    DeleteUser,
}

impl Operation {
    pub(super) const ALL: [Self; 7] = [
        Self::Edit,
        Self::RemoveJob,
        Self::AddJob,
        Self::CopyRecruiter,
        Self::DeleteRecruiter,
        Self::CopyUser,
        Self::DeleteUser,
    ];
}

/// The link of the recruiter, about its one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Link {
    pub(super) has_job: bool,
    /// True when the job was removed in a phase that cancels nothing.
    pub(super) set_aside: bool,
}

impl Link {
    pub(super) const NONE: Self = Self { has_job: false, set_aside: false };

    /// True if the link names the job at all.
    pub(super) fn names_job(self) -> bool {
        self.has_job || self.set_aside
    }
}

/// The offer, as far as this model goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Offer {
    pub(super) title: u8,
    pub(super) is_active: bool,
    pub(super) shows_contact: bool,
}

impl Documents {
    pub(super) const BEGINNING: Self =
        Self { recruiter: Some(Recruiter { title: 0, has_job: true }), copy: false, user: true, user_copy: false };

    /// The documents after a write; `None` where an application does not write so.
    pub(super) fn after(mut self, operation: Operation) -> Option<Self> {
        match (operation, &mut self.recruiter) {
            (Operation::Edit, Some(recruiter)) if recruiter.has_job => recruiter.title += 1,
            (Operation::RemoveJob, Some(recruiter)) if recruiter.has_job => recruiter.has_job = false,
            (Operation::AddJob, Some(recruiter)) if !recruiter.has_job => recruiter.has_job = true,
            (Operation::CopyRecruiter, Some(_)) if !self.copy => self.copy = true,
            (Operation::DeleteRecruiter, Some(_)) => self.recruiter = None,
            (Operation::CopyUser, _) if !self.user_copy => self.user_copy = true,
            (Operation::DeleteUser, _) if self.user && self.user_copy => self.user = false,
            _ => return None,
        }
        Some(self)
    }

    /// True if the contact of the user must not be shown.
    pub(super) fn user_is_anonymized(self) -> bool {
        !self.user && self.user_copy
    }

    /// The projection of the job, with the user as `knows_user` has it from a cache; `None` without a job.
    pub(super) fn projected(self, knows_user: bool) -> Option<Offer> {
        let recruiter = self.recruiter.filter(|recruiter| recruiter.has_job)?;
        let hides = self.user_is_anonymized() && !knows_user;
        Some(Offer { title: recruiter.title, is_active: !hides, shows_contact: !hides })
    }

    /// True if offer and link are what these documents ask for. Between a copy and the deletion of the original, an
    /// anonymisation is under way. The offer may be as before or anonymised, and a touch of a copied recruiter may be
    /// dropped, because its deletion follows.
    pub(super) fn agree_with(self, offer: Option<Offer>, link: Link) -> bool {
        let has_job = self.recruiter.is_some_and(|recruiter| recruiter.has_job);
        if self.copy && self.recruiter.is_some() {
            return true;
        }
        let agrees = match self.projected(false) {
            Some(_) if self.user_copy && self.user => true,
            Some(projected) => offer == Some(projected),
            None => offer.is_none_or(|offer| !offer.is_active),
        };
        agrees && link.has_job == has_job
    }

    /// True if the offer shows nobody whose contact must be gone.
    pub(super) fn is_private(self, offer: Option<Offer>) -> bool {
        let is_gone = self.user_is_anonymized() || self.recruiter.is_none() && self.copy;
        !is_gone || offer.is_none_or(|offer| !offer.shows_contact)
    }
}
