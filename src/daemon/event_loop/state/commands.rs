//! Handles people's commands.
//!
//! Owns the requests for jobs that wait for their turn, and the answers to what is refused at once.
//! Every command is answered exactly once, however its job ends; the rest of the answers belong to
//! [`super::super::tasks::commands`] and to the job's task.

use std::collections::BTreeMap;

use super::{super::action::Action, DaemonState, ending::STOPPING_MESSAGE};
use crate::{
    daemon::services::{
        command::{Command, CommandError, CommandErrorKind, OnceRequest, UserRequest},
        drives::no_answer_message,
    },
    domain::{
        engine::{
            MAX_REQUESTED,
            event::{Event, ProjectId, RequestTicket},
        },
        time::Now,
    },
};

use super::super::signals::Signal;

/// The requests for jobs that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Requests {
    waiting: BTreeMap<RequestTicket, (ProjectId, UserRequest)>,
    last_ticket: u64,
}

impl Requests {
    /// Returns whether no further request is accepted.
    fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_REQUESTED
    }

    /// Keeps a request until its turn.
    fn add(&mut self, project: ProjectId, request: UserRequest) -> RequestTicket {
        self.last_ticket += 1;
        let ticket = RequestTicket(self.last_ticket);
        self.waiting.insert(ticket, (project, request));
        ticket
    }

    /// Takes a request whose turn has come.
    pub(super) fn take(&mut self, ticket: RequestTicket) -> Option<UserRequest> {
        self.waiting.remove(&ticket).map(|(_, request)| request)
    }

    /// Takes the requests of all projects that are not in `keep`.
    fn take_others(&mut self, keep: &[ProjectId]) -> Vec<UserRequest> {
        let (kept, others) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, (project, _))| keep.contains(project));
        self.waiting = kept;
        others.into_values().map(|(_, request)| request).collect()
    }
}

impl DaemonState {
    pub(super) fn on_command(&mut self, command: Command, now: Now) {
        match command {
            Command::Once { request, reply } => {
                self.enqueue_request(UserRequest { request, reply }, now);
            }
            Command::Cancel { job, reply } => {
                let active = self.projects.values().any(|project| project.runs(job));
                self.push(Action::Cancel { job, active, reply });
            }
            Command::Restore { job, reply } => {
                let places = self
                    .projects
                    .iter()
                    .map(|(id, project)| (*id, (project.config().root.clone(), project.targets())))
                    .collect();
                self.push(Action::Restore { job, places, reply });
            }
            Command::Rate { job, rate, reply } => self.push(Action::Rate { job, rate, reply }),
            Command::Reload { reply } => self.reload(Some(reply)),
            Command::Stop { reply } => {
                let answer = Ok(STOPPING_MESSAGE.to_owned());
                self.push(Action::ReplyText { reply, answer });
                self.on_signal(Signal::Stop, now);
            }
        }
    }

    /// Keeps a request for a job until its turn comes, or refuses it.
    pub(crate) fn enqueue_request(&mut self, asked: UserRequest, now: Now) {
        let project = match self.project_of(&asked.request) {
            Ok(project) => project,
            Err(error) => return self.refuse_request(asked, error),
        };
        if self.requests.is_full() {
            let error = CommandError::new(
                CommandErrorKind::TryAgain,
                "too many jobs are already requested; nothing was started. Try again when some are \
                 done",
            );
            return self.refuse_request(asked, error);
        }
        let ticket = self.requests.add(project, asked);
        self.decide(Event::Requested { project, ticket }, now);
    }

    fn refuse_request(&mut self, asked: UserRequest, error: CommandError) {
        self.push(Action::ReplyJob { reply: asked.reply, answer: Err(error) });
    }

    /// Refuses the requests of all projects that are not in `keep`.
    pub(super) fn refuse_requests_of_others(&mut self, keep: &[ProjectId]) {
        for asked in self.requests.take_others(keep) {
            let error = CommandError::new(
                CommandErrorKind::Configuration,
                "its project is no longer served; nothing was sent",
            );
            self.refuse_request(asked, error);
        }
    }

    fn project_of(&self, request: &OnceRequest) -> Result<ProjectId, CommandError> {
        let names = || {
            let names: Vec<&str> =
                self.projects.values().map(|project| project.config().name.as_str()).collect();
            names.join(", ")
        };
        let unresponsive = self.taken.unresponsive();
        match &request.project {
            Some(name) => self
                .projects
                .iter()
                .find(|(_, project)| project.config().name == *name)
                .map(|(id, _)| *id)
                .ok_or_else(|| {
                    let message = format!(
                        "there is no project `{name}`; the served projects are: {}",
                        names()
                    );
                    CommandError::new(CommandErrorKind::Usage, message)
                }),
            None if self.projects.is_empty() && !unresponsive.is_empty() => {
                let words: Vec<String> = unresponsive.iter().map(no_answer_message).collect();
                Err(CommandError::new(CommandErrorKind::TryAgain, words.join("; ")))
            }
            None if self.projects.len() == 1 => {
                self.projects.keys().next().copied().ok_or_else(|| {
                    CommandError::new(CommandErrorKind::Configuration, "no project is configured")
                })
            }
            None => {
                let message =
                    format!("several projects are served ({}): choose one with --project", names());
                Err(CommandError::new(CommandErrorKind::Usage, message))
            }
        }
    }
}
