//! Bars of the request: from a prepared picture to the body that is sent, compared with copying
//! that body.
//!
//! A module of `bars`, not a separate program. The two sizes are those that matter: a picture that
//! just fits into RunComfy's recommended 256 KB of Base64, and an unchanged render of CONJURE's.
//! Each has its reference, measured in the same run: `copy` is the cost of only moving the finished
//! body; `base64` and `digest` are the two steps of building it that read every byte.

use std::{collections::BTreeMap, hint::black_box};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conjured::domain::{
    fingerprint::Fingerprint,
    request::{
        overrides::{BodyPlan, Picture, Seeds, WorkflowInputs},
        workflow::{Workflow, bind::bind},
    },
};
use criterion::{BenchmarkId, Criterion, Throughput};

/// Sizes of the pictures in bytes.
const SIZES: [usize; 2] = [192 * 1024, 546 * 1024];

/// A prompt of CONJURE's usual length, with its em dash.
const PROMPT: &str = "A chair with carved oak armrests and a worn leather seat. Shown in a three-quarter view — \
                      studio light, plain background, every detail sharp, nothing else in the picture.";

/// Adds the measurements of the request.
pub(crate) fn benches(criterion: &mut Criterion) {
    let workflow = Workflow::find_built_in("conjure_flux_mesh").expect("built in");
    let bindings = bind(&workflow, &BTreeMap::new()).expect("bound");
    let plan = BodyPlan::new(&workflow, &bindings).expect("they belong together");
    let values = WorkflowInputs {
        prompt: PROMPT,
        seeds: Seeds { image: 8_864_280_986_922_132, mesh: 731_159_928 },
        steps_flux: Some(20),
        steps_partpacker: Some(50),
    };
    let mut group = criterion.benchmark_group("request");
    for size in SIZES {
        let bytes: Vec<u8> =
            (0..size).map(|at| at.wrapping_mul(0x9E37_79B1).to_le_bytes()[3]).collect();
        let fingerprint = Fingerprint::of(&bytes);
        let picture = Picture { bytes: &bytes, mime: "image/png", fingerprint };
        let body = plan.build(&values, &picture);
        group.throughput(Throughput::Bytes(body.bytes.len() as u64));
        group.bench_function(BenchmarkId::new("build", size), |bencher| {
            bencher.iter(|| plan.build(black_box(&values), black_box(&picture)));
        });
        group.bench_function(BenchmarkId::new("copy", size), |bencher| {
            bencher.iter(|| black_box(&body.bytes).to_vec());
        });
        group.bench_function(BenchmarkId::new("base64", size), |bencher| {
            let mut text = vec![0; size.div_ceil(3) * 4];
            bencher.iter(|| STANDARD.encode_slice(black_box(&bytes), &mut text));
        });
        group.bench_function(BenchmarkId::new("digest", size), |bencher| {
            bencher.iter(|| Fingerprint::of(black_box(&body.bytes)));
        });
    }
    group.finish();
}
