//! The fake's launcher, and the way in which launcher and API write: read, change, replace.
//!
//! Owns what is stale in it. Whose turn it is to write is the fake's matter.

use std::{
    fs,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use conjured::clock::Clock;
use rand::{Rng as _, rngs::StdRng};
use serde_json::{Map, Value, json};

use super::{Shared, api::python, lock};
use crate::support::patience::eventually;

/// A launcher or an API that was paused for longer between its read and its write reads again. Far
/// below what a client waits for a staged file, and far above what they think.
const MOST_STALE: Duration = Duration::from_millis(30);

impl Shared {
    /// `StateManager`: read, change, temporary file, replace. The caller holds the turn.
    pub(super) fn update(&self, changes: &[(&str, Value)], thinks: Duration) {
        self.update_if(changes, thinks, |_| true);
    }

    /// Changes the state unless what is read there speaks against it; tells whether it was changed.
    fn update_if(
        &self,
        changes: &[(&str, Value)],
        thinks: Duration,
        wanted: impl Fn(&Map<String, Value>) -> bool,
    ) -> bool {
        eventually("the state is replaced", || {
            let looked = Clock.now().moment;
            let Some((_, mut state)) = self.read().filter(|(_, state)| wanted(state)) else {
                return Some(false);
            };
            std::thread::park_timeout(thinks);
            for (key, value) in changes {
                state.insert((*key).to_owned(), value.clone());
            }
            let temporary = self.state.with_file_name("state.tmp");
            fs::write(&temporary, python(&state)).expect("writes");
            let fresh = Clock.now().moment.since(looked) < MOST_STALE;
            // On Windows it is refused while another program has the file open, and CONJURE's next
            // beat tries again.
            (fresh && fs::rename(&temporary, &self.state).is_ok()).then_some(true)
        })
    }

    /// Runs the launcher: it rewrites at random moments, sometimes gives Blender other work, and
    /// imports by file time.
    pub(super) fn launch(&self, mut chance: StdRng) {
        let (mut beat, mut number) = (0_u64, 0_u64);
        let mut pending = None;
        let mut trigger = None;
        while !self.is_over() {
            let (least, most) = self.manners.launcher.unwrap_or((40, 60));
            self.nap(Duration::from_millis(chance.random_range(least..=most)));
            beat += 1;
            if self.manners.launcher.is_some() {
                let _turn = lock(&self.turn);
                let thinks = Duration::from_micros(chance.random_range(0..=self.manners.thinks));
                let is_idle = |state: &Map<String, Value>| state["command"].is_null();
                let idle = self.read().is_some_and(|(_, state)| is_idle(&state));
                if let Some(given) = pending.filter(|_| idle) {
                    pending = None;
                    if self.carried_out.load(Ordering::SeqCst) < given {
                        self.lost.fetch_add(1, Ordering::SeqCst);
                    }
                }
                // It gives a command only if the read that it writes back shows none: on another
                // program's command it would leave that one's mark, as if it had been taken.
                let other =
                    [("command", json!("spawn_primitive")), ("primitive_type", json!(number + 1))];
                if idle
                    && chance.random_range(0..12) == 0
                    && self.update_if(&other, Duration::ZERO, is_idle)
                {
                    number += 1;
                    pending = Some(number);
                    self.given.fetch_add(1, Ordering::SeqCst);
                } else {
                    self.update(&[("beat", json!(beat))], thinks);
                }
            }
            if self.manners.detector {
                if beat.is_multiple_of(8) {
                    trigger = Some(Clock.now().wall);
                }
                let mesh = self.results.join("partpacker_result_0.glb");
                let modified = fs::metadata(mesh).and_then(|data| data.modified()).ok();
                let age = modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
                let modified = age.and_then(|age| i64::try_from(age.as_millis()).ok());
                if let (Some(at), Some(modified)) = (trigger, modified)
                    && modified > at.unix_millis()
                {
                    trigger = None;
                    self.spring("the launcher imports by file time, a second time");
                }
            }
        }
    }
}
