//! The one integration binary. A line for each file on what belongs there:
//!
//! - `engine_cases`: settle, trigger and engine as data (`cases/*.toml`).

mod engine_cases;
