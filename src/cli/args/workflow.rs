//! `conjured workflow …`: what a person can ask about workflows.

use clap::{Args, Subcommand, ValueHint};

/// `conjured workflow`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct WorkflowArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: WorkflowCommand,
}

/// What can be done with workflows.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum WorkflowCommand {
    /// List the workflows that come with conjured.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a workflow's nodes, and which of them fits which role.
    #[command(after_help = "\
Examples:
  conjured workflow inspect conjure_flux_mesh
  conjured workflow inspect ./workflow_api.json --json")]
    Inspect {
        /// A built-in name, or a file in API format.
        #[arg(value_name = "FILE or NAME", value_hint = ValueHint::FilePath)]
        workflow: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check that a workflow can be used as it is configured.
    ///
    /// Ends with 65 if it cannot.
    #[command(after_help = "\
Examples:
  conjured workflow validate
  conjured workflow validate ./workflow_api.json")]
    Validate {
        /// A built-in name, or a file in API format; without it the configured one.
        #[arg(value_name = "FILE or NAME", value_hint = ValueHint::FilePath)]
        workflow: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
