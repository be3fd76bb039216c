//! How fast pictures and meshes are read, compared with copying the same bytes and with computing
//! only their checksum.
//!
//! Owns its inputs: a render of 1024 × 1024 as Blender writes it (chunks of 8 KiB, text first), a
//! harder one full of grain, and a mesh of 3 MB.

#![expect(clippy::print_stdout, reason = "a bench tells what it measured on standard output")]

use std::{hint::black_box, io::Cursor};

use bytes::Bytes;
use conjured::domain::{inputs::png, mesh, picture};
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};

/// Runs the bars of this module.
pub(crate) fn bars(criterion: &mut Criterion) {
    let render = render(2);
    let mut group = criterion.benchmark_group("png");
    copying(&mut group, &render);
    group.bench_function("crc32 alone", |bencher| {
        bencher.iter(|| crc32fast::hash(black_box(&render)));
    });
    group.bench_function("check", |bencher| bencher.iter(|| png::check(black_box(&render))));
    group.finish();

    let mesh = mesh(300);
    let mut group = criterion.benchmark_group("glb");
    copying(&mut group, &mesh);
    group.bench_function("check", |bencher| {
        bencher.iter(|| mesh::check(&mut Cursor::new(black_box(&mesh)), mesh.len() as u64));
    });
    group.finish();

    let mut group = criterion.benchmark_group("picture");
    group.sample_size(10);
    group.bench_function("single_colour", |bencher| {
        bencher.iter(|| picture::single_colour(black_box(&render)));
    });
    for (name, grain) in [("best_form, few colours", 2), ("best_form, grainy", 32)] {
        let file = Bytes::from(self::render(grain));
        let form = picture::best_form(file.clone(), 256).map(|form| (form.form, form.bytes.len()));
        println!("{name}: {} bytes become {form:?}", file.len());
        group.bench_function(name, |bencher| {
            bencher.iter(|| picture::best_form(black_box(file.clone()), 256));
        });
    }
    group.finish();
}

fn copying(group: &mut BenchmarkGroup<'_, WallTime>, bytes: &[u8]) {
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("memcpy", |bencher| bencher.iter(|| black_box(bytes).to_vec()));
}

/// Returns a shaded body in front of a dithered ground, as an RGBA PNG with fast compression.
fn render(grain: u32) -> Vec<u8> {
    const SIDE: u32 = 1024;
    let mut seed = 1_u32;
    let mut samples = Vec::with_capacity(4 << 20);
    for y in 0..SIDE {
        for x in 0..SIDE {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let distance = (x.abs_diff(512).pow(2) + y.abs_diff(512).pow(2)) / 1024;
            let light = 50 + 100_u32.saturating_sub(distance) / 12 * 12 + (seed >> 20) % grain;
            let light = u8::try_from(light).unwrap_or(u8::MAX);
            samples.extend([light, light / 2 + 30, 70, 255]);
        }
    }
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, SIDE, SIDE);
    encoder.set_color(::png::ColorType::Rgba);
    encoder.set_deflate_compression(::png::DeflateCompression::Level(1));
    encoder.set_filter(::png::Filter::Sub);
    encoder.add_text_chunk("RenderTime".into(), "00:00.09".into()).expect("a text");
    let mut writer = encoder.write_header().expect("a header");
    let mut stream = writer.stream_writer_with_size(8192).expect("a stream");
    std::io::Write::write_all(&mut stream, &samples).expect("pixels");
    stream.finish().expect("an end");
    drop(writer);
    file
}

/// Returns a hilly landscape of `side` × `side` vertices.
fn mesh(side: u32) -> Vec<u8> {
    let mut positions = Vec::new();
    let mut indices = Vec::new();
    for y in 0..side {
        for x in 0..side {
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let [x_at, y_at] = [x, y].map(|v| v as f32 / side as f32);
            for v in [x_at, y_at, (x_at * 9.0).sin() * (y_at * 7.0).cos() + 2.0] {
                positions.extend(v.to_le_bytes());
            }
            if x + 1 < side && y + 1 < side {
                let at = y * side + x;
                for corner in [at, at + 1, at + side, at + 1, at + side + 1, at + side] {
                    indices.extend(corner.to_le_bytes());
                }
            }
        }
    }
    let (vertices, corners) = (positions.len() / 12, indices.len() / 4);
    let json = format!(
        r#"{{"asset":{{"version":"2.0"}},"scenes":[{{"nodes":[0]}}],"nodes":[{{"mesh":0}}],"meshes":[{{"primitives":[{{"attributes":{{"POSITION":0}},"indices":1}}]}}],"accessors":[{{"bufferView":0,"componentType":5126,"type":"VEC3","count":{vertices}}},{{"bufferView":1,"componentType":5125,"type":"SCALAR","count":{corners}}}],"bufferViews":[{{"buffer":0,"byteLength":{0}}},{{"buffer":0,"byteOffset":{0},"byteLength":{1}}}],"buffers":[{{"byteLength":{2}}}]}}"#,
        positions.len(),
        indices.len(),
        positions.len() + indices.len()
    );
    let mut json = json.into_bytes();
    json.resize(json.len().next_multiple_of(4), b' ');
    let bin = [positions, indices].concat();
    let word = |value: usize| u32::try_from(value).expect("small").to_le_bytes();
    let total = word(28 + json.len() + bin.len());
    let head = [&b"glTF\x02\0\0\0"[..], &total, &word(json.len()), b"JSON"].concat();
    [head, json.clone(), word(bin.len()).to_vec(), b"BIN\0".to_vec(), bin].concat()
}
