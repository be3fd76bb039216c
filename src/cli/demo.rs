//! (being built)
use super::{args::DemoArgs, context::Context, exit::Failure};
/// Demo.
pub(super) async fn demo(_context: &Context, _args: &DemoArgs) -> Result<(), Failure> { Ok(()) }
