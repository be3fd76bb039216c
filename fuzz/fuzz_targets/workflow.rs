//! A workflow file of any content: parse, inspect, bind, validate.
//!
//! Beyond "no panic": what `inspect` proposes can be bound.

#![no_main]

use std::collections::BTreeMap;

use conjured::domain::request::workflow::{Workflow, bind::bind_or_find, inspect::inspect, validate::validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(workflow) = Workflow::parse("fuzzed", data) else { return };
    let seen = inspect(&workflow);
    let _ = seen.snippet();
    if let Ok((bindings, _)) = bind_or_find(&workflow, &BTreeMap::new()) {
        let _ = validate(&workflow, &bindings);
    }
});
