//! Faults on demand: what goes wrong, at which call or in which run, and how often.
//!
//! Owns the catalogue [`Fault`], the request for one ([`Order`]) and the list of open orders. It
//! decides *which* fault a call gets, never how it looks on the wire: `wire`, `replies` and
//! `storage` do that.

use serde::{Deserialize, Serialize};

use super::{
    behaviour::ErrorShape,
    produce::{Product, Spoiled},
};

/// The calls that a client can make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `POST …/inference`.
    #[default]
    Submit,
    /// `GET …/status`.
    Status,
    /// `GET …/result`.
    Result,
    /// `POST …/cancel`.
    Cancel,
    /// `GET /balance`.
    Balance,
    /// Everything else below `/deployments`.
    Deployment,
    /// `GET` on the storage origin.
    Download,
    /// `POST …/servers`.
    Launch,
    /// `GET …/servers`, and `…/workflows`.
    Servers,
    /// `GET …/servers/{id}`.
    Server,
    /// `POST …/update-estimated-duration`.
    Extend,
    /// `DELETE …/servers/{id}`.
    Stop,
    /// Any of them; valid only in orders.
    Any,
}

/// One thing that goes wrong. In JSON it is a plain name (`"accept_then_drop"`) or a name with
/// details (`{"http":{"status":429,"retry_after":"2"}}`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    // At any call; at a submit unless the order names another call.
    /// The call takes effect, and the connection breaks before an answer.
    AcceptThenDrop,
    /// The connection breaks before the body is read; nothing takes effect.
    DropBeforeReading,
    /// The call takes effect, and the answer comes after `ms`; without `ms` it never comes.
    Hang {
        /// Milliseconds.
        #[serde(default)]
        ms: Option<u64>,
    },
    /// The head of the answer comes at once, its body in small pieces over `ms`.
    SlowBody {
        /// Milliseconds.
        ms: u64,
    },
    /// The call takes effect; the answer is 200 with broken JSON.
    InvalidJson,
    /// The call takes effect; the answer is 200 with `{}`.
    EmptyObject,
    /// The call takes effect; the answer is 200 with an HTML page.
    HtmlBody,
    /// An HTTP error. The call takes no effect unless `accepted` is set.
    Http {
        /// The status, 400 to 599.
        status: u16,
        /// The value of the `Retry-After` header, in any form.
        #[serde(default)]
        retry_after: Option<String>,
        /// The body; without it, JSON with a fitting message.
        #[serde(default)]
        body: Option<String>,
        /// Whether the call takes effect anyway: a run that the client never learns of.
        #[serde(default)]
        accepted: bool,
    },
    /// 200 with a top-level `error_code`; the call takes no effect.
    OkWithErrorCode {
        /// The code.
        code: u32,
    },
    /// The token is refused from now on (until `POST /_control/token` or a reset).
    TokenRevoked,

    // At a submit.
    /// The run exists, but the answer's `request_id` is unusable.
    RequestId(BadRequestId),

    // At a status call.
    /// The queue position is unexpected (only while the request waits).
    QueuePosition(OddPosition),
    /// The status has this value.
    StatusWord(String),

    // At a download.
    /// The stream is throttled to this rate.
    SlowStream {
        /// Bytes per second, at least 1.
        bytes_per_second: u64,
    },
    /// The stream stops after this fraction, with the connection still open.
    StallAt {
        /// 0 to 1.
        fraction: f64,
    },
    /// The connection breaks after this fraction.
    CutAt {
        /// 0 to 1.
        fraction: f64,
    },
    /// `Content-Length` claims this many bytes (for example 10 GB, or too few).
    ContentLength {
        /// Bytes.
        claimed: u64,
    },
    /// The storage ignores `Range`.
    NoRange,
    /// 302 to another address.
    Redirect {
        /// The `Location`.
        #[serde(default = "foreign")]
        url: String,
    },

    // In a rented machine: applies to the next one that is launched.
    /// It never becomes ready.
    NeverReady,
    /// It ends in `Error` instead of becoming ready.
    MachineFails,

    // In a run: applies to the next accepted request, for its whole life.
    /// It waits forever.
    StuckInQueue,
    /// It runs forever (and the machine is billed forever).
    StuckInProgress,
    /// Once it has ended, status and result answer 404.
    Forgotten,
    /// The result is available this long before the status says so.
    ResultReadyBeforeStatus {
        /// Milliseconds; at most the length of the run.
        ms: u64,
    },
    /// A result call before the end answers 400 with 400005.
    #[serde(rename = "result_400005")]
    Result400005,
    /// The run fails with this code (10000 to 10013, or any other).
    RunFails {
        /// The code.
        code: u32,
        /// The shape in which the result reports it; without it,
        /// [`super::Behaviour::error_shape`] decides.
        #[serde(default)]
        shape: Option<ErrorShape>,
    },
    /// The status of a failed run says `failed`.
    FailedOnStatus,
    /// The outputs of this product's node are missing.
    NodeMissing(Product),
    /// The output of this product's node has no `url`.
    ItemWithoutUrl(Product),
    /// A second image node lists a file of the same name.
    EqualNames,
    /// Previews of type `temp` come before the outputs.
    TempPreviews,
    /// The mesh is listed under this channel.
    MeshChannel(String),
    /// The answer has members that no client knows.
    UnknownMembers,
    /// The outputs include nodes of a sub-graph, whose ids contain colons.
    ColonIds,
    /// The outputs include a node with nested texts.
    NestedText,
    /// The product's `url` is replaced by this one: a foreign host, plain http, `file:`.
    ProductUrl {
        /// Which product.
        product: Product,
        /// The address.
        #[serde(default = "foreign")]
        url: String,
    },
    /// The content of the product's file is broken or unusual.
    File {
        /// Which product.
        product: Product,
        /// In which way.
        content: Spoiled,
    },
}

/// An address on a foreign host that is certain to serve nothing.
fn foreign() -> String {
    "https://storage.invalid/elsewhere.bin".to_owned()
}

/// Ways in which a request id can be unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadRequestId {
    /// The member is missing.
    Missing,
    /// White space.
    Blank,
    /// A number.
    Numeric,
    /// `../../elsewhere`.
    PathLike,
    /// `null`.
    Null,
}

/// Ways in which a queue position can be unexpected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OddPosition {
    /// 0, which is a valid value.
    Zero,
    /// The member is missing.
    Absent,
    /// `null`.
    Null,
}

/// How often an order applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", untagged)]
pub enum Times {
    /// To the next this many matching calls or runs.
    Next(u32),
    /// To all of them; in JSON the word `"all"`.
    All(AllWord),
}

/// The word `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllWord {
    /// `all`.
    All,
}

/// A fault and the calls it applies to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What goes wrong.
    pub fault: Fault,
    /// At which call; only for faults that can happen at any call. Default: submit.
    #[serde(default)]
    pub on: Call,
    /// For downloads: only for this product.
    #[serde(default)]
    pub only: Option<Product>,
    /// How often. Default: once.
    #[serde(default = "once")]
    pub times: Times,
    /// How many matching calls or runs succeed before.
    #[serde(default)]
    pub after: u32,
}

const fn once() -> Times {
    Times::Next(1)
}

impl From<Fault> for Order {
    fn from(fault: Fault) -> Self {
        Self { fault, on: Call::Submit, only: None, times: once(), after: 0 }
    }
}

impl Order {
    /// Sets the call.
    #[must_use]
    pub fn on(mut self, call: Call) -> Self {
        self.on = call;
        self
    }

    /// Restricts a download fault to one product.
    #[must_use]
    pub fn only(mut self, product: Product) -> Self {
        self.only = Some(product);
        self
    }

    /// Sets how often the fault happens.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Times::Next(times);
        self
    }

    /// Makes the fault last until the faults are cleared.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = Times::All(AllWord::All);
        self
    }

    /// Lets this many matching calls or runs succeed before.
    #[must_use]
    pub fn after(mut self, passed: u32) -> Self {
        self.after = passed;
        self
    }

    fn fault_place(&self) -> FaultPlace {
        match self.fault {
            Fault::AcceptThenDrop
            | Fault::DropBeforeReading
            | Fault::Hang { .. }
            | Fault::SlowBody { .. }
            | Fault::InvalidJson
            | Fault::EmptyObject
            | Fault::HtmlBody
            | Fault::Http { .. }
            | Fault::OkWithErrorCode { .. } => FaultPlace::At(self.on),
            Fault::TokenRevoked => FaultPlace::AtTheApi,
            Fault::RequestId(_) => FaultPlace::At(Call::Submit),
            Fault::QueuePosition(_) | Fault::StatusWord(_) => FaultPlace::At(Call::Status),
            Fault::SlowStream { .. }
            | Fault::StallAt { .. }
            | Fault::CutAt { .. }
            | Fault::ContentLength { .. }
            | Fault::NoRange
            | Fault::Redirect { .. } => FaultPlace::At(Call::Download),
            Fault::NeverReady | Fault::MachineFails => FaultPlace::InAMachine,
            Fault::StuckInQueue
            | Fault::StuckInProgress
            | Fault::Forgotten
            | Fault::ResultReadyBeforeStatus { .. }
            | Fault::Result400005
            | Fault::RunFails { .. }
            | Fault::FailedOnStatus
            | Fault::NodeMissing(_)
            | Fault::ItemWithoutUrl(_)
            | Fault::EqualNames
            | Fault::TempPreviews
            | Fault::MeshChannel(_)
            | Fault::UnknownMembers
            | Fault::ColonIds
            | Fault::NestedText
            | Fault::ProductUrl { .. }
            | Fault::File { .. } => FaultPlace::InARun,
        }
    }

    /// Uses the order once, if its turn has come.
    fn take_fault(&mut self) -> Option<Fault> {
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        if let Times::Next(left) = &mut self.times {
            *left = left.checked_sub(1)?;
        }
        Some(self.fault.clone())
    }
}

/// Where a fault happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FaultPlace {
    At(Call),
    /// At any call except a download, which has no token.
    AtTheApi,
    InARun,
    InAMachine,
}

/// The most orders that may be open at once, so that a client with a faulty loop cannot fill
/// the memory.
const MAX_ORDERS: usize = 1000;

/// The open orders, oldest first.
#[derive(Default)]
pub(super) struct Orders(Vec<Order>);

impl Orders {
    /// Adds an order; returns whether there was space for it.
    pub(super) fn add(&mut self, order: Order) -> bool {
        let room = self.0.len() < MAX_ORDERS;
        if room {
            self.0.push(order);
        }
        room
    }

    pub(super) fn open(&self) -> &[Order] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the fault for one call: the oldest matching order whose turn has come.
    pub(super) fn at(&mut self, call: Call, product: Option<Product>) -> Option<Fault> {
        let fault = self
            .0
            .iter_mut()
            .filter(|order| match order.fault_place() {
                FaultPlace::At(Call::Any) => true,
                FaultPlace::At(at) => at == call,
                FaultPlace::AtTheApi => call != Call::Download,
                FaultPlace::InARun | FaultPlace::InAMachine => false,
            })
            .filter(|order| order.only.is_none() || order.only == product)
            .find_map(Order::take_fault);
        self.remove_used();
        fault
    }

    /// Returns the faults of a new run: all matching orders whose turn has come, because one run
    /// can have several.
    pub(super) fn in_a_run(&mut self) -> Vec<Fault> {
        let runs = self.0.iter_mut().filter(|order| order.fault_place() == FaultPlace::InARun);
        let faults = runs.filter_map(Order::take_fault).collect();
        self.remove_used();
        faults
    }

    /// Returns the faults of a new rented machine.
    pub(super) fn in_a_machine(&mut self) -> Vec<Fault> {
        let machines =
            self.0.iter_mut().filter(|order| order.fault_place() == FaultPlace::InAMachine);
        let faults = machines.filter_map(Order::take_fault).collect();
        self.remove_used();
        faults
    }

    fn remove_used(&mut self) {
        self.0.retain(|order| order.times != Times::Next(0));
    }
}

#[cfg(test)]
mod tests;
