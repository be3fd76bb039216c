//! RunComfy's error codes and HTTP classes: the meaning of each, the advice for a person, and the
//! effect on the job.
//!
//! Owns the table. It reads no JSON ([`super::reply`] and [`super::result`] find the code and
//! the text).
//!
//! Sources: docs.runcomfy.com, "Error codes" and "Async queue endpoints". The 4000xx codes belong
//! to the Model API and are listed so that they are recognised. The HTTP status of the 100xx codes
//! is not published, so the code decides, whatever the status is.

use crate::backend::{FaultKind, ServiceFault};

/// The meaning of a code or an HTTP class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeMeaning {
    /// The service's code; 0 for an HTTP class.
    code: u32,
    /// The service's name for the code. Some answers contain the name instead of the code.
    name: &'static str,
    /// What to do with the job.
    pub(super) kind: FaultKind,
    /// Whether the request is over. In the answer to a submit this means that nothing runs; in a
    /// later answer, that nothing runs any more.
    pub(super) ends_request: bool,
    /// The advice for a person.
    advice: &'static str,
}

/// The code that the Model API returns if the result is requested too early.
pub(super) const NOT_READY: u32 = 400_005;

const fn final_error(
    code: u32,
    name: &'static str,
    kind: FaultKind,
    advice: &'static str,
) -> CodeMeaning {
    CodeMeaning { code, name, kind, ends_request: true, advice }
}

const fn temporary_error(code: u32, name: &'static str, advice: &'static str) -> CodeMeaning {
    CodeMeaning { code, name, kind: FaultKind::Service, ends_request: false, advice }
}

#[rustfmt::skip]
const CODES: [CodeMeaning; 23] = [
    temporary_error(10_000, "InternalServerError", "RunComfy reports an internal error, which may be temporary."),
    final_error(10_001, "InsufficientFunds", FaultKind::Account, "The balance or the plan does not allow runs, and RunComfy has disabled the deployment. Top up, then enable the deployment again; topping up alone does not enable it."),
    final_error(10_002, "DisabledDeployment", FaultKind::Account, "The deployment is disabled. Enable it on RunComfy's deployment page; if the balance is empty, top up first."),
    final_error(10_003, "DeletedDeployment", FaultKind::Gone, "The deployment was deleted. Create another and set `serverless.deployment_id`."),
    temporary_error(10_004, "QueuePromptUnexpectedError", "RunComfy could not pass the prompt to ComfyUI, which may be temporary."),
    temporary_error(10_005, "PollingResultUnexpectedError", "RunComfy could not get the state of the run, which may be temporary."),
    temporary_error(10_006, "ResultRetrievalUnexpectedError", "RunComfy could not read the run's outputs, which may be temporary."),
    temporary_error(10_007, "ComfyUIConnectionError", "RunComfy could not reach ComfyUI on its machine, which may be temporary."),
    final_error(10_008, "ComfyUIQueuePromptError", FaultKind::Workflow, "ComfyUI refused the workflow (types, nodes or links). Check it with `conjured workflow validate`."),
    final_error(10_009, "FileUploadException", FaultKind::Workflow, "RunComfy could not read an input file. Check the render, and `generation.image_max_base64_kb`."),
    final_error(10_011, "ComfyUIExecutionError", FaultKind::Workflow, "A node of the workflow failed while it ran. The same input fails again: look at the node's message."),
    CodeMeaning { code: 10_012, name: "ComfyUIRequestMissing", kind: FaultKind::Service, ends_request: true, advice: "The run was lost (a crash, a restart, or not enough memory). If it happens again, choose a larger GPU." },
    final_error(10_013, "EmptyWorkflowApiJson", FaultKind::Account, "The deployment's workflow contains no API graph. Save it again with Cloud Save and use the new version."),
    final_error(400_001, "", FaultKind::Workflow, "RunComfy found the request malformed."),
    final_error(400_002, "", FaultKind::Account, "The balance does not allow runs. Top up."),
    final_error(400_004, "", FaultKind::Account, "RunComfy does not accept this account or token for runs. Check the account page."),
    temporary_error(NOT_READY, "", "The result is not ready yet."),
    final_error(401_001, "", FaultKind::Token, "The token is missing, wrong or expired. Put a valid one into RUNCOMFY_API_TOKEN or the file of `serverless.token_file`."),
    final_error(403_001, "", FaultKind::Account, "The account of this token may not do that. Check the token and the deployment."),
    final_error(403_003, "", FaultKind::Account, "The deployment or the request belongs to another account. Check `serverless.deployment_id` and the token."),
    final_error(404_001, "", FaultKind::Gone, "RunComfy does not know the deployment or the request, or no longer knows it. Check `serverless.deployment_id`."),
    final_error(422_001, "", FaultKind::Workflow, "RunComfy found the overrides invalid. Compare node ids and input names with the deployment's workflow."),
    temporary_error(500_001, "", "RunComfy reports an internal error, which may be temporary."),
];

/// Returns the meaning of a code, or `None` for codes that no reference explains (such as 10010).
pub(super) fn code_meaning(code: u32) -> Option<&'static CodeMeaning> {
    CODES.iter().find(|meaning| meaning.code == code)
}

/// Returns the code whose name is `text`.
pub(super) fn code_of_name(text: &str) -> Option<u32> {
    let named = |meaning: &&CodeMeaning| {
        !meaning.name.is_empty() && meaning.name.eq_ignore_ascii_case(text.trim())
    };
    CODES.iter().find(named).map(|meaning| meaning.code)
}

/// Returns the meaning of an HTTP status that came without a known code.
pub(super) const fn status_meaning(status: u16) -> CodeMeaning {
    match status {
        200..300 => temporary_error(
            0,
            "",
            "RunComfy reports an error without a known code; only its message is available.",
        ),
        300..400 => final_error(
            0,
            "",
            FaultKind::Account,
            "The API's address answers with a redirect, which is not followed, so that the token is not sent to another host. Check `serverless.api_url`.",
        ),
        401 => final_error(
            0,
            "",
            FaultKind::Token,
            "The token was refused. Put a valid one into RUNCOMFY_API_TOKEN or the file of `serverless.token_file`.",
        ),
        402 => final_error(
            0,
            "",
            FaultKind::Account,
            "RunComfy requires payment: the balance does not allow runs. Top up, and check that the deployment is still enabled.",
        ),
        403 => final_error(
            0,
            "",
            FaultKind::Account,
            "The account of this token may not use the deployment. Check `serverless.deployment_id` and the token.",
        ),
        404 | 410 => final_error(
            0,
            "",
            FaultKind::Gone,
            "RunComfy does not know the deployment or the request, or no longer knows it. Check `serverless.deployment_id`.",
        ),
        413 => final_error(
            0,
            "",
            FaultKind::Workflow,
            "The request is too large for RunComfy. Lower `generation.image_max_base64_kb`.",
        ),
        400 | 422 => final_error(
            0,
            "",
            FaultKind::Workflow,
            "RunComfy found the request invalid. Compare node ids and input names with the deployment's workflow.",
        ),
        408 => temporary_error(
            0,
            "",
            "RunComfy did not receive the request in time, which may be temporary.",
        ),
        425 | 429 => {
            temporary_error(0, "", "RunComfy asks to slow down. The call is retried later.")
        }
        400..500 => CodeMeaning {
            ends_request: true,
            ..temporary_error(0, "", "RunComfy refused the request.")
        },
        500..600 => temporary_error(
            0,
            "",
            "RunComfy or a server in front of it has a problem, which may be temporary.",
        ),
        _ => temporary_error(0, "", "RunComfy's answer could not be understood."),
    }
}

/// Returns the meaning of an answer: from its code if that is known, otherwise from its
/// HTTP status.
pub(super) fn meaning(code: Option<u32>, status: u16) -> CodeMeaning {
    code.and_then(code_meaning).copied().unwrap_or_else(|| status_meaning(status))
}

/// Creates the fault that the rest of the crate uses.
pub(super) fn fault(code: Option<u32>, status: u16, message: String) -> ServiceFault {
    let meaning = meaning(code, status);
    let message = if message.is_empty() { default_message(code, status) } else { message };
    ServiceFault { code, status, message, advice: meaning.advice, kind: meaning.kind }
}

fn default_message(code: Option<u32>, status: u16) -> String {
    let name = code.and_then(code_meaning).map_or("", |meaning| meaning.name);
    match code {
        Some(code) if !name.is_empty() => format!("{name} ({code})"),
        Some(code) => format!("error {code}"),
        None => format!("HTTP {status} without a message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_code_has_its_verdict() {
        use FaultKind::{Account, Gone, Service, Token, Workflow};
        let table = [
            (10_000, Service, false),
            (10_001, Account, true),
            (10_002, Account, true),
            (10_003, Gone, true),
            (10_004, Service, false),
            (10_005, Service, false),
            (10_006, Service, false),
            (10_007, Service, false),
            (10_008, Workflow, true),
            (10_009, Workflow, true),
            (10_011, Workflow, true),
            (10_012, Service, true),
            (10_013, Account, true),
            (401_001, Token, true),
            (403_003, Account, true),
            (404_001, Gone, true),
            (422_001, Workflow, true),
            (500_001, Service, false),
            (400_002, Account, true),
            (400_004, Account, true),
        ];
        for (code, kind, is_over) in table {
            let meaning = code_meaning(code).expect("in the table");
            assert_eq!((meaning.kind, meaning.ends_request), (kind, is_over), "{code}");
            assert!(meaning.advice.ends_with('.'), "{code} has a sentence for a person");
        }
        assert_eq!(code_meaning(10_010), None, "no source explains it");
    }

    #[test]
    fn every_http_class_without_a_code_has_its_verdict() {
        use FaultKind::{Account, Gone, Service, Token, Workflow};
        let table = [
            (301, Account),
            (307, Account),
            (400, Workflow),
            (401, Token),
            (402, Account),
            (403, Account),
            (404, Gone),
            (408, Service),
            (409, Service),
            (410, Gone),
            (413, Workflow),
            (422, Workflow),
            (429, Service),
            (500, Service),
            (502, Service),
            (503, Service),
            (504, Service),
        ];
        for (status, kind) in table {
            assert_eq!(status_meaning(status).kind, kind, "{status}");
        }
    }

    #[test]
    fn codes_are_listed_once_and_found_by_name() {
        for (at, meaning) in CODES.iter().enumerate() {
            assert!(CODES[..at].iter().all(|earlier| earlier.code != meaning.code));
        }
        assert_eq!(code_of_name(" comfyuiexecutionerror "), Some(10_011));
        assert_eq!(code_of_name(""), None);
    }

    #[test]
    fn a_fault_without_words_still_says_something() {
        assert_eq!(fault(None, 502, String::new()).message, "HTTP 502 without a message");
        assert_eq!(fault(Some(10_002), 200, String::new()).message, "DisabledDeployment (10002)");
        assert_eq!(fault(Some(77), 200, String::new()).message, "error 77");
    }
}
