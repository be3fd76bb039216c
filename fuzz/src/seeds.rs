//! Writes the first inputs of each target: small valid files, created here, so that mutations start
//! after the first check.
//!
//! `cargo run --bin seeds -- FOLDER` creates a folder for each target in `FOLDER`.

use std::{fs, io, path::Path};

use conjured::{config::EXAMPLE, domain::request::workflow::Workflow, simulator::gesture_camera::GestureCamera};
use serde_json::json;

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1).ok_or_else(|| io::Error::other("name a folder"))?;
    let folder = Path::new(&folder);
    let mut camera = GestureCamera::with_side(16);
    for target in ["png", "picture"] {
        for scene in 0..3 {
            seed(folder, target, &format!("render-{scene}"), &camera.frame(scene))?;
        }
    }
    glb(folder)?;
    answers(folder)?;
    for (number, text) in [
        "2025-09-15T12:00:00.123456",
        "2025-09-15T12:00:00Z",
        "2025-09-15 14:30:00.5+02:30",
        "2025-09-15T04:00:00-08:00",
    ]
    .iter()
    .enumerate()
    {
        seed(folder, "timestamps", &number.to_string(), text.as_bytes())?;
    }
    seed(folder, "config", "example", EXAMPLE.as_bytes())?;
    seed(folder, "config", "small", b"mode = \"serverless\"\n[[project]]\nroot = \".\"\n[generation.bind]\nprompt = \"41.value\"\n")?;
    seed(folder, "prompt", "utf-8", "A clay owl \u{2014} three-quarter view".as_bytes())?;
    seed(folder, "prompt", "bom", b"\xef\xbb\xbf a clay owl \r\n")?;
    seed(folder, "prompt", "1252", b"a clay owl \x97 in a caf\xe9")?;
    for name in ["conjure_flux_mesh", "conjure_flux_mesh_local"] {
        if let Some(workflow) = Workflow::find_built_in(name) {
            seed(folder, "workflow", name, &serde_json::to_vec(workflow.graph())?)?;
        }
    }
    Ok(())
}

fn glb(folder: &Path) -> io::Result<()> {
    let corners = [[0.0_f32, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.5]];
    let mut binary: Vec<u8> = corners.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    binary.extend([0_u16, 1, 2, 0].iter().flat_map(|index| index.to_le_bytes()));
    let scene = json!({
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": [0, 0, 1]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 3, "min": [0, 0, 0], "max": [1, 1, 0.5]},
            {"bufferView": 1, "componentType": 5123, "type": "SCALAR", "count": 3}
        ],
        "bufferViews": [{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 8}],
        "buffers": [{"byteLength": binary.len()}]
    })
    .to_string();
    let mut whole = vec![0];
    whole.extend(conjured_fuzz::wrap_glb(scene.as_bytes(), &binary));
    seed(folder, "glb", "whole", &whole)?;
    let mut parts = vec![1];
    parts.extend_from_slice(scene.as_bytes());
    parts.push(0);
    parts.extend_from_slice(&binary);
    seed(folder, "glb", "parts", &parts)
}

fn answers(folder: &Path) -> io::Result<()> {
    let file = json!({"url": "https://files.example/a_00001_.glb", "filename": "a_00001_.glb", "subfolder": "mesh", "type": "output"});
    let bodies = [
        json!({"request_id": "R-1", "status_url": "x", "result_url": "x", "cancel_url": "x"}),
        json!({"request_id": "R-1", "status": "in_queue", "queue_position": 0}),
        json!({"request_id": "R-1", "status": "in_progress", "instance_id": "i"}),
        json!({"status": "succeeded", "outputs": {"33": {"3d": [file], "text": [["a"]]}}, "created_at": "2025-09-15T12:00:00.1"}),
        json!({"status": "failed", "error": [{"errorCode": 10011, "error": "it broke", "debugInfo": "why"}]}),
        json!({"status": "completed", "error": {"type": "x", "message": "y"}}),
        json!({"status": "completed", "outcome": "not_cancellable"}),
        json!({"balance_usd": 5.0, "balance_microdollars": 5_000_000, "currency": "USD"}),
        json!({"error_code": 422_001, "error_message": "no", "detail": [{"loc": ["overrides"], "msg": "bad"}]}),
    ];
    for (number, body) in bodies.iter().enumerate() {
        // HTTP 200, 202, 422 − 200 …
        for status in [0_u16, 222] {
            let mut data = status.to_le_bytes().to_vec();
            data.push(if number % 2 == 0 { 0 } else { 200 });
            data.extend_from_slice(body.to_string().as_bytes());
            seed(folder, "answers", &format!("{number}-{status}"), &data)?;
        }
    }
    Ok(())
}

fn seed(folder: &Path, target: &str, name: &str, data: &[u8]) -> io::Result<()> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), data)
}
