//! The bars of the product, measured: each module prints its own beside a peer from the same run.
//!
//! `cargo bench --bench bars -- png` runs those whose names contain `png`.

mod pixels;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    pixels::bars(&mut criterion);
    criterion.final_summary();
}
