//! What `status` reports about rented machines.
//!
//! Owns the texts. They contain points in time and no durations, so that the status of an idle
//! daemon does not change.

use super::manager::{ManagedServer, ServerManager, usable};
use crate::{
    daemon::services::{messages::JobReport, runtime_config::RuntimeConfig},
    domain::{machines::MachineStage, status},
};

impl ServerManager {
    /// Reports to the event loop what `status` shows of the machines, if that changed.
    pub(crate) async fn show(&mut self) {
        let config = self.config();
        let shown: Vec<status::Machine> =
            self.servers.iter().map(|server| self.line(server, &config)).collect();
        if shown != self.shown {
            self.shown.clone_from(&shown);
            self.report(JobReport::Machines(shown)).await;
        }
    }

    fn line(&self, server: &ManagedServer, config: &RuntimeConfig) -> status::Machine {
        let rules = usable(config, &server.account).map(|cloud| cloud.rules);
        let lifecycle = &server.lifecycle;
        let busy = !server.leases.is_empty();
        let doing = match lifecycle.stage {
            MachineStage::Launching if server.server.is_none() && lifecycle.failures() == 0 => {
                "is being launched, or searched for because the answer was lost"
            }
            MachineStage::Launching => "is being searched for: the answer to its launch was lost",
            MachineStage::Lost => "may exist: it is unknown which of the account's machines it is",
            MachineStage::Starting => "is starting, not billed yet",
            MachineStage::Ready if busy => "works",
            MachineStage::Ready => "idles",
            MachineStage::Stopping => "is being stopped; RunComfy has not confirmed it yet",
            MachineStage::Gone => "has ended",
        };
        let alarm = self.alarm(server, config);
        let idle =
            lifecycle.idle_since.zip(rules).map(|(since, rules)| since.plus(rules.idle_stop));
        let ceiling = rules.and_then(|rules| lifecycle.max_run_end(&rules));
        let will_stop = [idle, ceiling].into_iter().flatten().min();
        status::Machine {
            id: server.id.to_string(),
            server: server.server.as_ref().map(ToString::to_string),
            server_type: server.kind.server_type.clone(),
            stage: lifecycle.stage,
            doing: doing.to_owned(),
            since: server.created_at,
            ready_at: lifecycle.ready.map(|ready| self.rounded_wall_time(ready)),
            stops_at: will_stop
                .filter(|_| matches!(lifecycle.stage, MachineStage::Starting | MachineStage::Ready))
                .map(|at| self.rounded_wall_time(at)),
            hourly: server.hourly,
            reserved: server.reserved,
            alarm,
        }
    }

    /// Converts a moment to the wall clock, rounded to the second, so that small differences
    /// between two clock readings are not a change.
    fn rounded_wall_time(
        &self,
        moment: crate::domain::time::Moment,
    ) -> crate::domain::time::WallTime {
        let millis = self.to_wall_time(moment).unix_millis();
        crate::domain::time::WallTime::from_unix_millis((millis + 500).div_euclid(1000) * 1000)
    }

    /// Returns the warning about a machine that may cost money and that conjured cannot control.
    fn alarm(&self, server: &ManagedServer, config: &RuntimeConfig) -> Option<String> {
        if usable(config, &server.account).is_none() {
            let reason = match &config.cloud {
                Ok(_) => {
                    "the configured `cloud.user_id` is not the one that launched it".to_owned()
                }
                Err(unavailable) => unavailable.reason.clone(),
            };
            return Some(format!("it may cost money and cannot be checked or stopped: {reason}"));
        }
        let problem =
            server.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
        match server.lifecycle.stage {
            MachineStage::Lost => Some("it may cost money: check RunComfy's dashboard".to_owned()),
            MachineStage::Stopping if server.lifecycle.failures() > 0 => {
                Some(format!("it could not be stopped yet and costs money; retrying{problem}"))
            }
            MachineStage::Launching if server.lifecycle.failures() > 0 => {
                Some(format!("it may cost money, and RunComfy cannot be reached{problem}"))
            }
            _ if self.notes.problem.is_some() => {
                Some("its events cannot be written to the ledger".to_owned())
            }
            _ => server.problem.clone(),
        }
    }
}
