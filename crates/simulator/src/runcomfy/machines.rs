//! Rented machines: when each is known, ready and over, and what it has cost by then.
//!
//! Owns the times and the billing (per second, from ready until the stop was accepted), computed
//! when a caller asks. Pure. The answers about a machine are [`super::servers`]'s.

use std::time::Duration;

use conjured_domain::{
    money::{BillingPlan, MicroUsd, Tier, cost_of},
    time::Moment,
};

/// The state of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Launched, but its own service does not know it yet.
    Hidden,
    /// Starting.
    Starting,
    /// Ready, and billed.
    Ready,
    /// It failed to start.
    Failed,
    /// Stopped, by a call or because its duration ended.
    Over,
}

/// One machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) server_type: String,
    pub(crate) version: String,
    pub(crate) launched: Moment,
    /// When its own service starts to know it.
    pub(crate) known: Moment,
    /// When it is ready; `None` means never.
    pub(crate) ready: Option<Moment>,
    /// It fails instead of becoming ready.
    pub(crate) fails: bool,
    /// From its launch until it stops automatically.
    pub(crate) duration: Duration,
    /// When a stop was accepted.
    pub(crate) stopped: Option<Moment>,
    /// The address of its ComfyUI.
    pub(crate) url: String,
}

impl Machine {
    /// Returns when it stops automatically.
    pub(crate) fn stops_at(&self) -> Moment {
        self.launched.plus(self.duration)
    }

    /// Returns when it ended; `None` while it has not.
    pub(crate) fn over(&self, now: Moment) -> Option<Moment> {
        let by_itself = Some(self.stops_at()).filter(|at| *at <= now);
        [self.stopped, by_itself].into_iter().flatten().min()
    }

    pub(crate) fn phase(&self, now: Moment) -> Phase {
        if self.over(now).is_some() {
            return Phase::Over;
        }
        let due = self.ready.is_some_and(|ready| now >= ready);
        match (due, self.fails) {
            (true, true) => Phase::Failed,
            (true, false) => Phase::Ready,
            (false, _) if now < self.known => Phase::Hidden,
            (false, _) => Phase::Starting,
        }
    }

    /// Returns how long it has been billed so far.
    pub(crate) fn billed(&self, now: Moment) -> Duration {
        let Some(ready) = self.ready.filter(|_| !self.fails) else { return Duration::ZERO };
        self.over(now).unwrap_or(now).since(ready)
    }

    /// Returns what that cost; every second begun is billed in full.
    pub(crate) fn cost(&self, now: Moment) -> MicroUsd {
        let seconds = self.billed(now).as_millis().div_ceil(1000);
        cost_of(Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX)), self.hourly())
    }

    fn hourly(&self) -> MicroUsd {
        let tier = match self.server_type.as_str() {
            "extra-large" => "x-large",
            "2xl-turbo" => "2x-large-plus",
            other => other,
        };
        Tier::find(tier).map_or(MicroUsd::ZERO, |tier| tier.hourly(BillingPlan::Hobby))
    }
}

/// The server types that exist.
pub(crate) const TYPES: [&str; 5] = ["medium", "large", "extra-large", "2x-large", "2xl-turbo"];

/// How many calls of the Server API may come at once (five), with about one more allowed
/// per second.
const BURST: Duration = Duration::from_secs(5);
const CALL: Duration = Duration::from_secs(1);

/// The rate limit on calls: each costs a second, and up to five may be made in advance.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    /// The moment at which the calls so far are paid off.
    owed: Moment,
}

impl Meter {
    /// Returns whether a call is allowed now, and counts it.
    pub(crate) fn allow(&mut self, now: Moment) -> bool {
        let from = self.owed.max(now);
        if from.since(now) > BURST {
            return false;
        }
        self.owed = from.plus(CALL);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_billed_from_ready_to_its_stop_or_its_own_end() {
        let s = |seconds: u64| Moment::from_millis(seconds * 1000);
        let mut machine = Machine {
            id: "m".to_owned(),
            server_type: "extra-large".to_owned(),
            version: "v".to_owned(),
            launched: s(10),
            known: s(12),
            ready: Some(s(20)),
            fails: false,
            duration: Duration::from_secs(100),
            stopped: None,
            url: String::new(),
        };
        let phases = [11, 15, 20, 109, 110].map(|at| machine.phase(s(at)));
        assert_eq!(
            phases,
            [Phase::Hidden, Phase::Starting, Phase::Ready, Phase::Ready, Phase::Over]
        );
        assert_eq!(machine.billed(s(1000)), Duration::from_secs(90));
        machine.stopped = Some(s(50));
        assert_eq!(machine.billed(s(1000)), Duration::from_secs(30));
        assert_eq!(machine.cost(s(1000)), MicroUsd(20_834), "30 s at 2.50 USD an hour");
        machine.stopped = Some(s(15));
        assert_eq!(machine.cost(s(1000)), MicroUsd::ZERO, "it never was ready");
        assert_eq!(Machine { fails: true, ..machine }.cost(s(14)), MicroUsd::ZERO);
    }

    #[test]
    fn more_than_one_call_a_second_is_too_many_after_a_few() {
        let mut meter = Meter::default();
        let now = Moment::from_millis(1_000_000);
        let passed = (0..20).filter(|_| meter.allow(now)).count();
        assert_eq!(passed, 6);
        assert!(!meter.allow(now));
        assert!(meter.allow(now.plus(Duration::from_secs(2))));
    }
}
