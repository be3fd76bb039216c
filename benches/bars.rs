//! The product's performance bars, measured: each module prints its own beside a reference from the
//! same run.
//!
//! `cargo bench --bench bars -- png` runs those whose names contain `png`. What only a whole
//! process can show (memory, wake-ups, the start) is measured by `whole.sh` in this folder.

mod ledger;
mod pixels;
mod request;
mod settle;
mod window;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    pixels::bars(&mut criterion);
    request::benches(&mut criterion);
    settle::benches(&mut criterion);
    ledger::benches(&mut criterion);
    window::benches(&mut criterion);
    criterion.final_summary();
}
