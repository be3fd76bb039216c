//! The one integration binary. A line for each file on what belongs there:
//!
//! - `engine_cases`: settle, trigger and engine as data (`cases/*.toml`).
//! - `architecture`: the layers of `src/`, and the rules that hold for every file.

mod engine_cases;
mod architecture;
