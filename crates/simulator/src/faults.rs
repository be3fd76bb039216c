//! Troubles to order: what may go wrong, at which call or in which run, and how often.
//!
//! Owns the catalogue [`Fault`], the slip [`Order`] and the list of open orders. It decides *which* fault a call gets,
//! never how it looks on the wire: that is for `wire`, `replies` and `storage`.

use serde::{Deserialize, Serialize};

use super::{
    behaviour::ErrorShape,
    produce::{Product, Spoiled},
};

/// The calls of a client.
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
    /// Any of them; only for orders.
    Any,
}

/// One thing that goes wrong. In JSON a plain name (`"accept_then_drop"`) or a name with details
/// (`{"http":{"status":429,"retry_after":"2"}}`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    // At any call; a submit unless the order says otherwise.
    /// The call takes effect, and the connection breaks without an answer.
    AcceptThenDrop,
    /// The connection breaks before the body is read; nothing takes effect.
    DropBeforeReading,
    /// The call takes effect, and the answer comes after `ms`; without `ms` never.
    Hang {
        /// Milliseconds.
        #[serde(default)]
        ms: Option<u64>,
    },
    /// The answer's head comes at once, its body in drops over `ms`.
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
    /// An HTTP error. It takes no effect unless `accepted`.
    Http {
        /// The status, 400 to 599.
        status: u16,
        /// The `Retry-After` header, in whichever form.
        #[serde(default)]
        retry_after: Option<String>,
        /// The body; without it a JSON with a fitting message.
        #[serde(default)]
        body: Option<String>,
        /// Whether the call takes effect all the same: a run that nobody was told of.
        #[serde(default)]
        accepted: bool,
    },
    /// 200 with a top-level `error_code`; it takes no effect.
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
    /// The queue position is not what one expects (only while the request waits).
    QueuePosition(OddPosition),
    /// The status says this word.
    StatusWord(String),

    // At a download.
    /// The stream flows at this pace.
    SlowStream {
        /// Bytes a second, at least 1.
        bytes_per_second: u64,
    },
    /// The stream stops after this fraction, with the connection open.
    StallAt {
        /// 0 to 1.
        fraction: f64,
    },
    /// The connection breaks after this fraction.
    CutAt {
        /// 0 to 1.
        fraction: f64,
    },
    /// `Content-Length` claims this (10 GB, or too little).
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

    // In a rented machine: bound to the next one that is launched.
    /// It never becomes ready.
    NeverReady,
    /// It ends in `Error` instead of becoming ready.
    MachineFails,

    // In a run: bound to the next accepted request, for all its life.
    /// It waits for ever.
    StuckInQueue,
    /// It runs for ever (and the machine is billed for ever).
    StuckInProgress,
    /// Once ended, status and result say 404.
    Forgotten,
    /// The result is there this long before the status says so.
    ResultReadyBeforeStatus {
        /// Milliseconds; the run's own length at most.
        ms: u64,
    },
    /// Asked before the end, the result answers 400 with 400005.
    #[serde(rename = "result_400005")]
    Result400005,
    /// The run fails with this code (10000 to 10013, or any other).
    RunFails {
        /// The code.
        code: u32,
        /// How the result says it; without it as [`super::Behaviour::error_shape`] says.
        #[serde(default)]
        shape: Option<ErrorShape>,
    },
    /// The status of a failed run says `failed`.
    FailedOnStatus,
    /// The node's outputs are missing.
    NodeMissing(Product),
    /// The node's item has no `url`.
    ItemWithoutUrl(Product),
    /// A second image node has a file of the same name.
    EqualNames,
    /// Previews of type `temp` stand before the outputs.
    TempPreviews,
    /// The mesh stands in this channel.
    MeshChannel(String),
    /// Members that no client knows.
    UnknownMembers,
    /// More nodes, of a sub-graph: their ids have colons.
    ColonIds,
    /// A node with nested texts.
    NestedText,
    /// The product's `url` is this: a foreign host, plain http, `file:`.
    ProductUrl {
        /// Whose.
        product: Product,
        /// The address.
        #[serde(default = "foreign")]
        url: String,
    },
    /// The product's file is spoiled.
    File {
        /// Whose.
        product: Product,
        /// How.
        content: Spoiled,
    },
}

/// A foreign place that surely serves nothing.
fn foreign() -> String {
    "https://storage.invalid/elsewhere.bin".to_owned()
}

/// Ways in which a request id is no request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadRequestId {
    /// No such member.
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

/// Ways in which a queue position surprises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OddPosition {
    /// 0, which is a value.
    Zero,
    /// No such member.
    Absent,
    /// `null`.
    Null,
}

/// How often an order is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", untagged)]
pub enum Times {
    /// The next so many fitting calls or runs.
    Next(u32),
    /// All of them; in JSON the word `"all"`.
    All(AllWord),
}

/// The word `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllWord {
    /// `all`.
    All,
}

/// A fault with the calls it is meant for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What goes wrong.
    pub fault: Fault,
    /// At which call; counts only for faults that fit any call. Default: submit.
    #[serde(default)]
    pub on: Call,
    /// For downloads: of which product only.
    #[serde(default)]
    pub only: Option<Product>,
    /// How often. Default: once.
    #[serde(default = "once")]
    pub times: Times,
    /// How many fitting calls or runs pass unharmed before.
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
    /// Says at which call.
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

    /// Says how often.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Times::Next(times);
        self
    }

    /// Makes it last until the faults are cleared.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = Times::All(AllWord::All);
        self
    }

    /// Lets so many fitting calls or runs pass before.
    #[must_use]
    pub fn after(mut self, passed: u32) -> Self {
        self.after = passed;
        self
    }

    fn place(&self) -> Place {
        match self.fault {
            Fault::AcceptThenDrop
            | Fault::DropBeforeReading
            | Fault::Hang { .. }
            | Fault::SlowBody { .. }
            | Fault::InvalidJson
            | Fault::EmptyObject
            | Fault::HtmlBody
            | Fault::Http { .. }
            | Fault::OkWithErrorCode { .. } => Place::At(self.on),
            Fault::TokenRevoked => Place::AtTheApi,
            Fault::RequestId(_) => Place::At(Call::Submit),
            Fault::QueuePosition(_) | Fault::StatusWord(_) => Place::At(Call::Status),
            Fault::SlowStream { .. }
            | Fault::StallAt { .. }
            | Fault::CutAt { .. }
            | Fault::ContentLength { .. }
            | Fault::NoRange
            | Fault::Redirect { .. } => Place::At(Call::Download),
            Fault::NeverReady | Fault::MachineFails => Place::InAMachine,
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
            | Fault::File { .. } => Place::InARun,
        }
    }

    /// Serves the order once, if it is its turn.
    fn serve(&mut self) -> Option<Fault> {
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

/// Where a fault takes place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    At(Call),
    /// At any call but a download, which has no token.
    AtTheApi,
    InARun,
    InAMachine,
}

/// The most orders that may be open: a mistaken loop must not fill the memory.
const MOST_ORDERS: usize = 1000;

/// The open orders, oldest first.
#[derive(Default)]
pub(super) struct Orders(Vec<Order>);

impl Orders {
    /// Takes an order; tells whether there was room for it.
    pub(super) fn add(&mut self, order: Order) -> bool {
        let room = self.0.len() < MOST_ORDERS;
        if room {
            self.0.push(order);
        }
        room
    }

    /// Returns the open orders.
    pub(super) fn open(&self) -> &[Order] {
        &self.0
    }

    /// Forgets all orders.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the fault of one call: of all fitting orders the oldest whose turn it is.
    pub(super) fn at(&mut self, call: Call, product: Option<Product>) -> Option<Fault> {
        let fault = self
            .0
            .iter_mut()
            .filter(|order| match order.place() {
                Place::At(Call::Any) => true,
                Place::At(at) => at == call,
                Place::AtTheApi => call != Call::Download,
                Place::InARun | Place::InAMachine => false,
            })
            .filter(|order| order.only.is_none() || order.only == product)
            .find_map(Order::serve);
        self.sweep();
        fault
    }

    /// Returns the faults of a new run: all fitting orders whose turn it is, for they can meet in one run.
    pub(super) fn in_a_run(&mut self) -> Vec<Fault> {
        let runs = self.0.iter_mut().filter(|order| order.place() == Place::InARun);
        let faults = runs.filter_map(Order::serve).collect();
        self.sweep();
        faults
    }

    /// Returns the faults of a new rented machine.
    pub(super) fn in_a_machine(&mut self) -> Vec<Fault> {
        let machines = self.0.iter_mut().filter(|order| order.place() == Place::InAMachine);
        let faults = machines.filter_map(Order::serve).collect();
        self.sweep();
        faults
    }

    fn sweep(&mut self) {
        self.0.retain(|order| order.times != Times::Next(0));
    }
}

#[cfg(test)]
mod tests;
