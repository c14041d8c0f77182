//! Period in which this node was primary without an interruption.

use super::{Agent, Role};
use crate::{Epoch, HostInstant};

/// Present period in which this node is primary, or the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WritablePeriod {
    /// Epoch of the lease, and time of the first verified write.
    began: Option<(Epoch, HostInstant)>,
    ended: bool,
}

impl WritablePeriod {
    /// Records the epoch in which the node is primary now, if it is.
    fn record(&mut self, now: HostInstant, epoch: Option<Epoch>) {
        let Some(epoch) = epoch else {
            self.ended = true;
            return;
        };
        let continues = self
            .began
            .is_some_and(|(began_in, _)| began_in == epoch && !self.ended);
        if !continues {
            self.began = Some((epoch, now));
        }
        self.ended = false;
    }
}

impl Agent {
    /// Returns the time of the first verified write of the present or last period in which this node was primary
    /// without an interruption; none if it was not since the agent started.
    pub fn writable_since(&self) -> Option<HostInstant> {
        self.writable.began.map(|(_, since)| since)
    }

    pub(super) fn record_writable_period(&mut self, now: HostInstant) {
        let verified = self
            .local
            .as_ref()
            .is_some_and(|local| local.primary.is_some());
        let epoch = match &self.role {
            Role::Holder(held) if verified && self.is_primary(now) => Some(held.record.epoch),
            Role::Holder(_) | Role::Candidate => None,
        };
        self.writable.record(now, epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tests::at;

    #[test]
    fn primary_then_since_its_first_observation() {
        let mut period = WritablePeriod::default();
        period.record(at(0), None);
        assert_eq!(period.began, None);

        period.record(at(100), Some(Epoch::new(2)));
        period.record(at(900), Some(Epoch::new(2)));
        assert_eq!(period.began, Some((Epoch::new(2), at(100))));
    }

    #[test]
    fn interrupted_or_other_epoch_then_new_period() {
        let mut period = WritablePeriod::default();
        period.record(at(0), Some(Epoch::new(2)));
        period.record(at(100), None);
        assert_eq!(
            period.began,
            Some((Epoch::new(2), at(0))),
            "the last one stays"
        );

        period.record(at(200), Some(Epoch::new(2)));
        assert_eq!(period.began, Some((Epoch::new(2), at(200))));
        period.record(at(300), Some(Epoch::new(3)));
        assert_eq!(period.began, Some((Epoch::new(3), at(300))));
    }
}
