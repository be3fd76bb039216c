//! Delivery of frames: the sockets by their ids, and every frame about a run.
//!
//! Owns the behaviour of the real server: a job with a client id is reported to that client, a job
//! without one to every client, and of two sockets with one id the newer is no longer served when
//! the older closes.

use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::{World, now};

/// A message to a client.
#[derive(Clone, Debug)]
pub(in crate::comfyui) enum Frame {
    Text(String),
    Binary(Vec<u8>),
}

impl World {
    /// Registers a socket; it replaces an older one of the same id.
    pub(in crate::comfyui) fn register_socket(
        &mut self,
        sid: &str,
        sender: UnboundedSender<Frame>,
    ) -> u64 {
        self.serial += 1;
        let serial = self.serial;
        if self.quirks.silent_sockets {
            self.orphans.push((serial, sender));
            return serial;
        }
        if let Some(older) = self.sockets.insert(sid.to_owned(), (serial, sender)) {
            self.orphans.push(older);
        }
        let status =
            json!({"status": {"exec_info": {"queue_remaining": self.remaining()}}, "sid": sid});
        self.send_text(Some(sid), "status", &status);
        // After a reconnect during a run, the server sends the current node, but not which job it
        // belongs to.
        let current = self.running.as_ref().filter(|run| run.job.client() == Some(sid));
        if let Some(node) = current.and_then(|run| run.done.last().cloned()) {
            self.send_text(Some(sid), "executing", &json!({ "node": node }));
        }
        serial
    }

    /// Closes a socket. The first one to close removes the id: a newer one stays open, but silent.
    pub(in crate::comfyui) fn close_socket(&mut self, sid: &str, serial: u64) {
        self.orphans.retain(|(known, _)| *known != serial);
        if let Some(newer) = self.sockets.remove(sid).filter(|(known, _)| *known != serial) {
            self.orphans.push(newer);
        }
    }

    pub(super) fn send_status(&mut self) {
        let status = json!({"status": {"exec_info": {"queue_remaining": self.remaining()}}});
        self.send_text(None, "status", &status);
    }

    /// Sends a message about the run, and records it for the history.
    pub(super) fn message(&mut self, word: &str, mut data: Value) {
        let Some(run) = self.running.as_mut() else { return };
        data["prompt_id"] = run.job.id.as_str().into();
        data["timestamp"] = now().into();
        run.messages.push(json!([word, data]));
        self.send_to_owner(word, data);
    }

    /// Sends to the client whose job runs; to no client, if the job named none.
    pub(super) fn send_to_owner(&mut self, word: &str, mut data: Value) {
        let Some(run) = &self.running else { return };
        data["prompt_id"] = run.job.id.as_str().into();
        if let Some(client) = run.job.client().map(str::to_owned) {
            self.send_text(Some(&client), word, &data);
        }
    }

    /// Sends to the client whose job runs; to every client, if the job named none.
    pub(super) fn progress(&mut self, word: &str, mut data: Value) {
        let Some(run) = &self.running else { return };
        data["prompt_id"] = run.job.id.as_str().into();
        let client = run.job.client().map(str::to_owned);
        self.send_text(client.as_deref(), word, &data);
    }

    pub(super) fn states(&mut self, id: &str, value: u64, of: u64) {
        let Some(run) = &self.running else { return };
        let state = |id: &str, word: &str, value: f64, of: f64| json!({"value": value, "max": of, "state": word, "node_id": id, "display_node_id": id, "parent_node_id": null, "real_node_id": id});
        let mut nodes: Map<String, Value> =
            run.done.iter().map(|id| (id.clone(), state(id, "finished", 1.0, 1.0))).collect();
        let word = if value < of { "running" } else { "finished" };
        // Numbers may be floats.
        let (value, of) = (u32::try_from(value).unwrap_or(0), u32::try_from(of).unwrap_or(1));
        nodes.insert(id.to_owned(), state(id, word, value.into(), of.into()));
        self.progress("progress_state", json!({ "nodes": nodes }));
    }

    pub(super) fn send_text(&mut self, to: Option<&str>, word: &str, data: &Value) {
        self.send(to, &Frame::Text(json!({"type": word, "data": data}).to_string()));
    }

    pub(super) fn send(&mut self, to: Option<&str>, frame: &Frame) {
        for (sid, (_, sender)) in &self.sockets {
            if to.is_none_or(|wanted| wanted == sid) {
                // A socket that has just closed is removed by its own task.
                let _ = sender.send(frame.clone());
            }
        }
    }
}
