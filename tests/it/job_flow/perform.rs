//! How a step is performed in the model: as the daemon performs it, call for call and record for
//! record.
//!
//! Owns the effects. It decides nothing; every decision is the flow's.

use std::time::Duration;

use conjured::domain::{
    job::{
        Cause, JobState, RequestId,
        artifact::ArtifactKind,
        attempt::AttemptEnd,
        cancel::{CancelOutcome, CancelReason, CancelSent},
        choose_backend::{Availability, BackendKind},
        flow::{
            Do, Switch,
            record::AttemptRecord,
            request_seen::{Newest, RequestSeen},
            world::{CacheFault, FetchFault, PayloadSeen, PlaceFault, Seen, SubmitSeen, WaitFor},
        },
        remote::{FaultKind, Phase, RunTimes},
    },
    money::{
        MicroUsd,
        job_cost::{Booking, ObservedTimes},
    },
    time::Moment,
};

use super::model::{Model, Sent, reserve, terms, workflow};

impl Model {
    /// Performs a step, as the daemon does.
    pub(super) fn perform(&mut self, step: Do) {
        self.steps += 1;
        match step {
            Do::UseCached(_) => self.use_cached(),
            Do::ChooseBackend(switch) => self.switch(&switch),
            Do::Probe(backend) => self.probe(backend),
            Do::Prepare => {
                let answer = self.answer("prepare", "ready");
                let is_ready = answer == "ready";
                self.seen.payload =
                    if is_ready { PayloadSeen::Ready } else { PayloadSeen::Unusable };
            }
            Do::AcquireServer => self.acquire_server(),
            Do::MarkSubmitting => self.mark_submitting(),
            Do::Submit => self.submit(),
            Do::RecordAccepted => self.record_accepted(),
            Do::RecordNotSent => {
                self.seen.marked = false;
                self.record.state = JobState::Prepared;
                self.end_attempt(AttemptEnd::NotSent);
                self.resend_later();
            }
            Do::RecordAnswerLost => {
                self.record.state = JobState::Prepared;
                self.end_attempt(AttemptEnd::AnswerLost);
                self.resend_later();
            }
            Do::Poll => self.poll(),
            Do::AskResult if self.record.outputs_known => {
                self.tell("refresh");
                for tries in &mut self.seen.fetch {
                    tries.gone += u32::from(tries.stale_url);
                    tries.stale_url = false;
                }
            }
            Do::AskResult => self.ask_result(),
            Do::Cancel(why) => self.cancel(why),
            Do::Fetch(kind) => self.fetch(kind),
            Do::KeepImage => {
                self.tell("keep image");
                self.seen.image_tried = true;
            }
            Do::RecordFetched => {
                self.record.state = JobState::Fetched;
                self.end_attempt(AttemptEnd::Succeeded);
                self.record.outputs_known = false;
                self.seen.retry = None;
            }
            Do::MarkPlacing => self.record.state = JobState::Placing,
            Do::Place => self.place(),
            Do::HandOff => {
                self.tell("hand off");
                self.record.state = JobState::HandingOver;
                self.seen.handed_over = true;
            }
            Do::Wait(until, what) => self.wait(until, what),
            Do::Suspend => self.tell("suspend"),
            Do::End(end) => {
                let reason = end.reason.map(|reason| words(&format!("{reason:?}")));
                let reason = reason.map(|reason| format!(" {reason}")).unwrap_or_default();
                self.tell(format!("end {}{reason}, {}", end.state, booked(end.booking)));
                self.record.state = end.state;
                self.end = Some(end);
            }
            Do::Ended(_) => {}
        }
    }

    fn switch(&mut self, switch: &Switch) {
        self.tell(format!("switch {}", switch.backend));
        if self.record.state != JobState::Prepared {
            self.end_attempt(switch.end);
            self.settled.push((self.record.backend, switch.booking));
        }
        self.record.state = JobState::Prepared;
        self.record.backend = switch.backend;
        self.record.workflow = workflow(switch.backend);
        (self.record.reserved, self.record.terms) = (MicroUsd::ZERO, terms(BackendKind::Comfyui));
        self.record.observed = ObservedTimes::default();
        self.record.outputs_known = false;
        (self.in_history, self.listed) = ([false; 2], [false; 2]);
        (self.has_lease, self.server_gone) = (false, false);
        self.seen = Seen {
            earlier_attempts: self.seen.earlier_attempts,
            over_budget: std::mem::take(&mut self.seen.over_budget),
            unproven: std::mem::take(&mut self.seen.unproven),
            payload: PayloadSeen::Ready,
            ..Seen::default()
        };
    }

    fn probe(&mut self, backend: BackendKind) {
        self.tell(format!("probe {backend}"));
        let answer = self.answer(&format!("probe {backend}"), "back");
        if answer == "back" {
            self.availability.remove(&backend);
        } else {
            let until = self.now.moment.plus(Duration::from_secs(60));
            self.availability.insert(backend, Availability::Paused { until });
            self.seen.unproven.push(backend);
            self.seen.token_refused = answer == "token";
        }
    }

    fn record_accepted(&mut self) {
        let known = self.record.request().cloned();
        let request = match self.seen.submit.take() {
            Some(SubmitSeen::Accepted(request)) => request,
            _ => known.expect("it was accepted"),
        };
        self.record.state = JobState::Submitted;
        let (wall, next) = (self.now.wall, self.now.moment.plus(self.pause()));
        if let Some(seen) = self.seen.request.as_mut() {
            seen.next_call = next;
        }
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.request = Some(request);
            attempt.submitted_at = Some(wall);
        }
    }

    fn end_attempt(&mut self, end: AttemptEnd) {
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.end = match attempt.end {
                None | Some(AttemptEnd::RunEnded) => Some(end),
                kept => kept,
            };
        }
    }

    fn use_cached(&mut self) {
        self.tell("use cached");
        match self.answer("cached", "copied").as_str() {
            "copied" => {
                self.in_history = [true; 2];
                self.record.state = JobState::Fetched;
            }
            "gone" => self.seen.cache = Some(CacheFault::Gone),
            _ => self.seen.cache = Some(CacheFault::NotCopied),
        }
    }

    fn acquire_server(&mut self) {
        self.tell("acquire server");
        match self.answer("server", "ready").as_str() {
            "ready" => self.has_lease = true,
            "gone" if self.record.state != JobState::Prepared => self.server_gone = true,
            _ if self.record.state != JobState::Prepared => self.retry_later(WaitFor::Server),
            "later" if self.record.cause != Cause::Person => self.retry_later(WaitFor::Server),
            _ => self.seen.server_refused = true,
        }
    }

    fn mark_submitting(&mut self) {
        let backend = self.record.backend;
        self.seen.over_budget.retain(|other| *other != backend);
        match self.answer("mark", "ok").as_str() {
            "over budget" if backend.is_paid() => {
                self.tell("over budget");
                self.seen.over_budget.push(backend);
                return self.retry_later(WaitFor::Budget);
            }
            "ok" | "over budget" => {}
            "charged" => {
                self.seen.charged_before = true;
                return;
            }
            "left" => {
                self.seen.left_to_other = true;
                return;
            }
            "locked" => return self.retry_later(WaitFor::Lock),
            "turn" => return self.retry_later(WaitFor::Turn),
            other => unreachable!("no answer to a mark: {other}"),
        }
        self.record.state = JobState::Submitting;
        if self.settled.is_empty()
            || self.settled.iter().all(|(_, booking)| *booking == Booking::Nothing)
        {
            (self.record.reserved, self.record.terms) = (reserve(backend), terms(backend));
        }
        self.record.attempts.push(AttemptRecord {
            backend,
            workflow: self.record.workflow,
            request: None,
            submitted_at: None,
            running_at: None,
            cancel: None,
            end: None,
        });
        (self.seen.marked, self.seen.submit, self.seen.retry) = (true, None, None);
    }

    fn submit(&mut self) {
        let backend = self.record.backend;
        self.tell(format!("submit {backend}"));
        self.seen.marked = false;
        self.seen_running = None;
        let answer = self.answer(&format!("submit {backend}"), "accepted");
        let may_be_taken = matches!(answer.as_str(), "accepted" | "lost" | "cut off");
        self.sent.push(Sent { backend, may_be_taken });
        self.seen.submit = Some(match answer.as_str() {
            "accepted" => {
                self.seen.request = Some(RequestSeen::accepted(self.now.moment));
                SubmitSeen::Accepted(RequestId::new("R-1").expect("an id"))
            }
            "not sent" => SubmitSeen::NotSent,
            "lost" => SubmitSeen::Lost,
            "cut off" => SubmitSeen::CutOff,
            refused => SubmitSeen::Refused(fault(refused)),
        });
    }

    fn resend_later(&mut self) {
        self.seen.submit = None;
        self.retry_later(WaitFor::Resend);
    }

    fn retry_later(&mut self, what: WaitFor) {
        self.seen.retry = Some((self.now.moment.plus(self.pause()), what));
    }

    fn poll(&mut self) {
        let answer = self.answer("poll", "ended");
        let (now, dies) = (self.now, self.dies_unrecorded);
        let next = now.moment.plus(self.pause());
        let Some(seen) = self.seen.request.as_mut() else { unreachable!("it was accepted") };
        seen.next_call = next;
        let phase = match answer.as_str() {
            "queued" => Phase::Queued { position: None },
            "running" => Phase::Running,
            "ended" => Phase::Ended,
            "silent" => return seen.silent(false),
            fault_word => {
                let kind = fault(fault_word);
                seen.fault(now.moment, kind, false);
                if kind == FaultKind::Token {
                    seen.next_call = now.moment.plus(Duration::from_secs(60));
                }
                return;
            }
        };
        // A service that puts it back into its queue says that it has not run.
        if matches!(phase, Phase::Queued { .. }) {
            self.seen_running = None;
        }
        if phase == Phase::Running {
            let first = self.seen_running.map_or(now.moment, |(first, _)| first);
            self.seen_running = Some((first, now.moment));
        }
        seen.polled(now.moment, &phase);
        if phase == Phase::Running && !dies {
            self.record_running();
        }
    }

    fn record_running(&mut self) {
        let (wall, waited) = (self.now.wall, self.seen.request.as_ref().and_then(|s| s.waited));
        let newest = self.record.attempts.last_mut();
        if let Some(attempt) = newest.filter(|attempt| attempt.running_at.is_none()) {
            attempt.running_at = Some(wall);
            self.record.state = JobState::Running;
            self.record.observed.waited = waited;
        }
    }

    fn ask_result(&mut self) {
        let answer = self.answer("result", "succeeded");
        let (now, dies) = (self.now, self.dies_unrecorded);
        let times = RunTimes::default();
        let next = now.moment.plus(self.pause());
        let Some(seen) = self.seen.request.as_mut() else { unreachable!("it was accepted") };
        seen.next_call = next;
        let (outcome, detail) = answer.split_once(' ').unwrap_or((&answer, ""));
        match outcome {
            "succeeded" => {
                seen.result(now.moment, Newest::Ended);
                let observed = seen.observed_times(times, now);
                if !dies {
                    self.record_running();
                    self.record.observed = observed;
                    self.record.outputs_known = true;
                    self.end_attempt(AttemptEnd::RunEnded);
                }
                self.listed = [detail != "imageless", detail != "meshless"];
            }
            "pending" => seen.result(now.moment, Newest::Pending),
            "cancelled" => seen.result(now.moment, Newest::Cancelled(times, now)),
            "failed" => {
                seen.result(now.moment, Newest::Failed(fault(detail), times, now));
                if !dies {
                    self.record_running();
                }
                self.listed = [true, false];
            }
            "silent" => seen.silent(true),
            _ => seen.fault(now.moment, fault(&answer), true),
        }
    }

    fn cancel(&mut self, why: CancelReason) {
        self.tell(format!("cancel {}", words(&format!("{why:?}"))));
        let answer = self.answer("cancel", "requested");
        self.record.control = self.record.control.max(why.control());
        let reply = match answer.as_str() {
            "requested" => CancelOutcome::Requested,
            "too late" => CancelOutcome::TooLate,
            "refused" => CancelOutcome::Refused,
            _ => CancelOutcome::NoAnswer,
        };
        let (now, is_paid) = (self.now, self.record.backend.is_paid());
        let again = (reply == CancelOutcome::NoAnswer && is_paid)
            .then(|| now.moment.plus(Duration::from_secs(30)));
        if again.is_none()
            && !self.dies_unrecorded
            && let Some(attempt) = self.record.attempts.last_mut()
        {
            attempt.cancel = Some(CancelSent { why, reply, at: now.wall });
        }
        let next = now.moment.plus(self.pause());
        if let Some(seen) = self.seen.request.as_mut() {
            seen.cancelled(now.moment, why, again);
            seen.next_call = next;
        }
    }

    fn fetch(&mut self, kind: ArtifactKind) {
        self.tell(format!("fetch {kind}"));
        let answer = self.answer(&format!("fetch {kind}"), "ok");
        if answer == "ok" {
            self.in_history[kind as usize] = true;
            self.seen.retry = None;
            return;
        }
        let tries = self.seen.fetch_mut(kind);
        tries.failures += u32::from(answer != "bad");
        match answer.as_str() {
            "cut" => {}
            "gone" if tries.gone >= 6 => tries.given_up = Some(FetchFault::Download),
            "gone" => tries.stale_url = true,
            "bad" => {
                tries.invalid += 1;
                if tries.invalid >= 3 {
                    tries.given_up = Some(FetchFault::Invalid);
                }
            }
            _ => tries.given_up = Some(FetchFault::Refused),
        }
        self.retry_later(WaitFor::Storage);
    }

    fn place(&mut self) {
        self.tell("place");
        match self.answer("place", "ok").as_str() {
            "ok" => {
                self.placed = true;
                if !self.dies_unrecorded {
                    self.record.state = JobState::Placed;
                }
            }
            "lost" => self.seen.place = Some(PlaceFault::SourceLost),
            "own folder" => self.seen.place = Some(PlaceFault::OwnFolder),
            _ => self.retry_later(WaitFor::Folder),
        }
    }

    fn wait(&mut self, until: Option<Moment>, what: WaitFor) {
        if !matches!(what, WaitFor::Poll | WaitFor::Turn | WaitFor::Resend) {
            self.tell(format!("wait {}", words(&format!("{what:?}"))));
        }
        self.waits_for = Some(what);
        let span = until.map_or(Duration::from_secs(3600), |until| until.since(self.now.moment));
        self.pass(span);
    }
}

fn fault(word: &str) -> FaultKind {
    match word {
        "workflow" => FaultKind::Workflow,
        "account" => FaultKind::Account,
        "token" => FaultKind::Token,
        "service" => FaultKind::Service,
        "gone" => FaultKind::Gone,
        other => unreachable!("no fault: {other}"),
    }
}

/// Returns how a booking is told in the cases.
pub(super) fn booked(booking: Booking) -> &'static str {
    match booking {
        Booking::Nothing => "nothing",
        Booking::Cost(_) => "measured",
        Booking::AtMost(_) => "bounded",
        Booking::Reserved => "reserved",
    }
}

/// Writes a name of the code as words.
fn words(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && text.chars().last().is_some_and(char::is_alphabetic) {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
