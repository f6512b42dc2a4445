//! The settings whose value is one of a few words. The words are defined only here: the table of keys, the check and
//! the typed settings take them from these enums.

/// An enum whose variants are the words of a setting.
pub trait Choice: Sized {
    /// All words, in the order of the variants.
    const WORDS: &'static [&'static str];

    /// The variant of a word; `None` for any other text.
    fn from_word(word: &str) -> Option<Self>;
}

macro_rules! choice {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant),+
        }

        impl $name {
            /// The word of this variant in the configuration.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl Choice for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

choice! {
    /// `environment`: the kind of deployment.
    Environment {
        /// A laptop or a test.
        Development = "development",
        /// A copy of production for trials.
        Staging = "staging",
        /// The live service; `obfuscate` is refused (spec 05).
        Production = "production",
    }
}

choice! {
    /// `stream.on_history_lost`: the reaction when the oplog no longer holds the resume token (spec 03).
    OnHistoryLost {
        /// The stream goes on from the current cluster time, and a resync touches every recruiter.
        Resync = "resync",
        /// The stream stops; the instance is not ready and waits for a person.
        Halt = "halt",
    }
}

choice! {
    /// `target.managed_by_type`: the BSON type of `managed_by` in offers (spec 09, "The target's schema decides").
    ManagedByChoice {
        /// The type that the validator names, else the type in most offers, else text.
        Auto = "auto",
        /// Hex digits.
        String = "string",
        /// An ObjectId.
        ObjectId = "object_id",
    }
}

choice! {
    /// `tokens.store`: the place of the checkpoint (spec 03).
    TokenStoreKind {
        /// The collection `stream_processor_state`.
        Mongodb = "mongodb",
        /// Files in `tokens.directory`.
        Files = "files",
    }
}

choice! {
    /// `phase.initial`: the phase, which says which collection is the authority (spec 04).
    Phase {
        /// `recruiters` is the authority.
        Sync = "sync",
        /// Both collections are the authority; the newer document wins.
        DualWrite = "dual-write",
        /// `jobs_partners` is the authority; the stream compares offers and writes no projection.
        Shadow = "shadow",
        /// `jobs_partners` is the authority; the stream does not read `recruiters`.
        Retired = "retired",
    }
}

choice! {
    /// `users.on_deactivated`: the effect of a user's last status `DESACTIVE` on the user's offers (spec 03).
    OnUserDeactivated {
        /// No effect; the user is only counted.
        Ignore = "ignore",
        /// The user's offers are cancelled.
        CancelOffers = "cancel-offers",
    }
}

choice! {
    /// `log.format`: the format of log lines.
    LogFormat {
        /// `pretty` on a terminal, `json` elsewhere.
        Auto = "auto",
        /// One JSON object per line.
        Json = "json",
        /// Text for people.
        Pretty = "pretty",
    }
}
