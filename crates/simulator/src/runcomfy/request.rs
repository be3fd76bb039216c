//! An accepted request: what it is to do, what was ordered to go wrong with it, and how it stands in words.
//!
//! Owns what is known of one request alone. Its place in the line is [`super::queue`]'s, its answers' JSON
//! [`super::replies`]'s.

use std::time::Duration;

use conjured_domain::time::Moment;

use super::intake::Work;
use crate::{
    faults::Fault,
    produce::{Content, Product, Recipe, Spoiled},
};

/// An accepted request. Its place in the list is its number in the queue.
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) created: Moment,
    pub(crate) work: Work,
    pub(crate) faults: Vec<Fault>,
    /// The code and the words of its failure, if it is to fail.
    pub(crate) failure: Option<(u32, String)>,
    pub(crate) status_calls: u64,
    pub(crate) result_calls: u64,
    pub(crate) cancel_calls: u64,
    pub(crate) downloads: u64,
    /// The products, kept from the first download on.
    pub(crate) products: [Option<Content>; 2],
}

/// How a request stands, as a result call tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Still waiting.
    Queued,
    /// Still running.
    Running,
    /// It made something.
    Succeeded,
    /// It made nothing.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl Outcome {
    /// Returns the service's word, with the older spelling of the last one.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Queued => "in_queue",
            Self::Running => "in_progress",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "canceled",
        }
    }
}

impl Request {
    /// Returns what its products are made from.
    pub(crate) fn recipe(&self, grid: u32) -> Recipe {
        Recipe {
            picture: self.work.picture.clone(),
            prompt: self.work.prompt.clone(),
            seed: self.work.seed,
            mesh_seed: self.work.mesh_seed,
            grid,
        }
    }

    /// Tells how it ends by itself.
    pub(crate) fn end(&self) -> Outcome {
        if self.failure.is_some() { Outcome::Failed } else { Outcome::Succeeded }
    }

    /// Tells whether its result is there before its end.
    pub(crate) fn is_ready_early(&self, ends: Moment, now: Moment) -> bool {
        self.faults.iter().any(|fault| match fault {
            Fault::ResultReadyBeforeStatus { ms } => now.plus(Duration::from_millis(*ms)) >= ends,
            _ => false,
        })
    }

    /// Tells how a product is spoiled.
    pub(crate) fn spoiled(&self, product: Product) -> Option<Spoiled> {
        self.faults.iter().find_map(|fault| match fault {
            Fault::File { product: of, content } if *of == product => Some(*content),
            _ => None,
        })
    }

    /// Tells whether it was ordered to have `fault`.
    pub(crate) fn has(&self, fault: &Fault) -> bool {
        self.faults.contains(fault)
    }
}

/// Returns the service's name for a code.
pub(crate) const fn words(code: u32) -> &'static str {
    match code {
        10000 => "InternalServerError",
        10001 => "InsufficientFunds",
        10002 => "DisabledDeployment",
        10003 => "DeletedDeployment",
        10004 => "QueuePromptUnexpectedError",
        10005 => "PollingResultUnexpectedError",
        10006 => "ResultRetrievalUnexpectedError",
        10007 => "ComfyUIConnectionError",
        10008 => "ComfyUIQueuePromptError",
        10009 => "FileUploadException",
        10011 => "ComfyUIExecutionError",
        10012 => "ComfyUIRequestMissing",
        10013 => "EmptyWorkflowApiJson",
        _ => "an error that no page describes",
    }
}
