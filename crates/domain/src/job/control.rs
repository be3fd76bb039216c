//! What was decided about a job from outside: continue, or end.
//!
//! Owns the order. A control is only ever raised, so that a newer snapshot cannot revoke a person's
//! cancel. A stop of the daemon is no control: it says nothing about the job and is never stored.

/// What a job should do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobControl {
    /// Continue.
    #[default]
    Continue,
    /// End, because a newer snapshot replaces the job.
    Supersede,
    /// End, because a person cancelled the job.
    Cancel,
}

impl JobControl {
    /// Every control, in its order.
    pub const ALL: [Self; 3] = [Self::Continue, Self::Supersede, Self::Cancel];

    /// Returns the word that the ledger stores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Supersede => "supersede",
            Self::Cancel => "cancel",
        }
    }

    /// Returns the control with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|control| control.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persons_cancel_outranks_a_newer_snapshot() {
        assert!(JobControl::ALL.is_sorted());
        for control in JobControl::ALL {
            assert_eq!(JobControl::from_name(control.name()), Some(control));
        }
    }
}
