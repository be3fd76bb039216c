//! Arguments of `conjured workflow …`.

use clap::{Args, Subcommand, ValueHint};

/// `conjured workflow`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct WorkflowArgs {
    /// What to do with workflows.
    #[command(subcommand)]
    pub command: WorkflowCommand,
}

/// The commands about workflows.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum WorkflowCommand {
    /// List the workflows that are built into conjured.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a workflow's nodes and which of them fit which role.
    #[command(after_help = "\
Examples:
  conjured workflow inspect conjure_flux_mesh
  conjured workflow inspect ./workflow_api.json --json")]
    Inspect {
        /// A built-in workflow's name, or a file in API format.
        #[arg(value_name = "FILE or NAME", value_hint = ValueHint::FilePath)]
        workflow: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check that a workflow can be used as configured.
    ///
    /// Exit code 65 if it cannot.
    #[command(after_help = "\
Examples:
  conjured workflow validate
  conjured workflow validate ./workflow_api.json")]
    Validate {
        /// A built-in workflow's name, or a file in API format; by default the configured workflow.
        #[arg(value_name = "FILE or NAME", value_hint = ValueHint::FilePath)]
        workflow: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
