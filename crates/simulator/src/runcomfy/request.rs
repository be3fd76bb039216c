//! An accepted request: its work, the faults that were ordered for it, and the word for its state.
//!
//! Owns what is known of one request alone. Its position in the queue is [`super::queue`]'s, the
//! JSON of its answers [`super::replies`]'s.

use std::time::Duration;

use conjured_domain::time::Moment;

use super::intake::PlannedRun;
use crate::{
    faults::Fault,
    produce::{Content, Product, ProductRecipe, Spoiled},
};

/// An accepted request. Its index in the list is its number in the queue.
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) created: Moment,
    pub(crate) work: PlannedRun,
    pub(crate) faults: Vec<Fault>,
    /// The code and the message of its failure, if it is to fail.
    pub(crate) failure: Option<(u32, String)>,
    pub(crate) status_calls: u64,
    pub(crate) result_calls: u64,
    pub(crate) cancel_calls: u64,
    pub(crate) downloads: u64,
    /// The products, kept from the first download on.
    pub(crate) products: [Option<Content>; 2],
}

/// The state of a request as a result call reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Still waiting.
    Queued,
    /// Still running.
    Running,
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl Outcome {
    /// Returns the service's word, with the older spelling of the last one.
    pub(crate) const fn name(self) -> &'static str {
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
    /// Returns the inputs of its products.
    pub(crate) fn recipe(&self, grid: u32) -> ProductRecipe {
        ProductRecipe {
            picture: self.work.picture.clone(),
            prompt: self.work.prompt.clone(),
            seed: self.work.seed,
            mesh_seed: self.work.mesh_seed,
            grid,
        }
    }

    /// Returns how it ends if nothing interferes.
    pub(crate) fn end(&self) -> Outcome {
        if self.failure.is_some() { Outcome::Failed } else { Outcome::Succeeded }
    }

    /// Returns whether its result is available before its end.
    pub(crate) fn is_ready_early(&self, ends: Moment, now: Moment) -> bool {
        self.faults.iter().any(|fault| match fault {
            Fault::ResultReadyBeforeStatus { ms } => now.plus(Duration::from_millis(*ms)) >= ends,
            _ => false,
        })
    }

    /// Returns in which way a product is broken.
    pub(crate) fn spoiled(&self, product: Product) -> Option<Spoiled> {
        self.faults.iter().find_map(|fault| match fault {
            Fault::File { product: of, content } if *of == product => Some(*content),
            _ => None,
        })
    }

    /// Returns whether `fault` was ordered for it.
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
