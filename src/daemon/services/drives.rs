//! Drives that may not answer: how long one is waited for, and how many are asked at once.
//!
//! Owns the limits and the message. The caller decides what an unanswered drive means for its
//! project.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::config::settings::ProjectConfig;

/// How long a drive may take to answer before others continue without it. One that sleeps has to
/// spin up first.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How many drives are asked at once: a thousand projects must not create as many threads.
const MAX_PARALLEL: usize = 16;

/// Asks many drives, and returns their answers in the order of the questions.
pub(crate) async fn ask_all<T>(asked: Vec<impl Future<Output = T>>) -> Vec<T> {
    stream::iter(asked).buffered(MAX_PARALLEL).collect().await
}

/// Returns the message about a project that waits for its drive.
pub(crate) fn no_answer_message(project: &ProjectConfig) -> String {
    format!(
        "the drive of project `{}` does not answer ({}): the project is served when it does, and all others continue",
        project.name,
        project.root.display()
    )
}
