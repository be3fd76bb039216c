"""Two functions shaped like the Spaces that CONJURE uses, as a real Gradio app: the same names, parameters, sliders and kinds of output.

    python app.py PORT LOG      serves on 127.0.0.1:PORT; writes each call as a line of JSON to LOG

What they make is honest and small: a picture drawn from the depth picture and the seed, and a pyramid whose GLB says what it was made of.
Words in the prompt order trouble: `refuse` (gr.Error), `quota` (gr.Error about one), `break` (another exception), `nothing` (a null
picture), `slow` (steps that take half a minute); a prompt with `mesh-` before one of them orders it of the mesh.
"""

import json
import os
import pathlib
import struct
import sys
import tempfile
import time

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio as gr
import numpy as np
from PIL import Image

PORT, LOG = int(sys.argv[1]), pathlib.Path(sys.argv[2])
ordered = {"mesh": ""}


def note(function, **values):
    with open(LOG, "a") as log:
        log.write(json.dumps({"function": function, **values}) + "\n")


def trouble(word):
    if word == "refuse":
        raise gr.Error("the artist's picture is too flat")
    if word == "quota":
        raise gr.Error("You have exceeded your GPU quota (60s requested vs. 0s left). Try again in 1:00:00")
    if word == "break":
        raise RuntimeError("a bug of the app")


def order(prompt):
    words = prompt.split()
    of_mesh = [word[5:] for word in words if word.startswith("mesh-")]
    ordered["mesh"] = of_mesh[0] if of_mesh else ""
    return next((word for word in words if word in ("refuse", "quota", "break", "nothing", "slow")), "")


def infer(control_image, prompt, seed, randomize_seed, width, height, guidance_scale, num_inference_steps,
          progress=gr.Progress()):
    note("infer", size=None if control_image is None else control_image.size, prompt=prompt, seed=seed, randomize_seed=randomize_seed,
         width=width, height=height, guidance_scale=guidance_scale, num_inference_steps=num_inference_steps)
    word = order(prompt)
    trouble(word)
    steps = int(num_inference_steps)
    for step in range(steps):
        progress((step, steps), desc="Denoising", unit="steps")
        time.sleep(30 / steps if word == "slow" else 0.02)
    if word == "nothing":
        return None, seed
    depth = np.asarray(control_image.convert("L").resize((256, 256)), dtype=np.uint16)
    tint = np.array([int(seed) % 200 + 50, int(seed) // 7 % 200 + 50, 128], dtype=np.uint16)
    picture = (depth[:, :, None] * tint // 255 + np.arange(256, dtype=np.uint16)[None, :, None] // 8).astype(np.uint8)
    return Image.fromarray(picture), seed


def process_image(image_path):
    note("process_image", size=image_path.size)
    return image_path


def process_3d(input_image, _session, num_steps, cfg_scale, grid_res, seed, simplify_mesh, target_num_faces,
               progress=gr.Progress()):
    made_of = dict(size=list(input_image.size), num_steps=num_steps, cfg_scale=cfg_scale, grid_res=grid_res, seed=seed,
                   simplify_mesh=simplify_mesh, target_num_faces=target_num_faces)
    note("process_3d", **made_of)
    word = ordered["mesh"]
    trouble(word)
    for step in range(10):
        progress((step, 10), desc="Unpacking parts")
        time.sleep(3 if word == "slow" else 0.02)
    if word == "nothing":
        return None
    path = os.path.join(tempfile.mkdtemp(), "a mesh é.glb")
    pathlib.Path(path).write_bytes(glb(made_of))
    return path


def glb(extras):
    points = [(0, 0, 1), (1, 0, 0), (-1, 1, 0), (-1, -1, 0)]
    faces = [0, 1, 2, 0, 2, 3, 0, 3, 1, 1, 3, 2]
    data = b"".join(struct.pack("<3f", *point) for point in points) + struct.pack("<12H", *faces)
    document = {
        "asset": {"version": "2.0", "generator": "tests/real/gradio", "extras": extras},
        "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", "min": [-1, -1, 0], "max": [1, 1, 1]},
                      {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"}],
        "bufferViews": [{"buffer": 0, "byteOffset": 0, "byteLength": 48}, {"buffer": 0, "byteOffset": 48, "byteLength": 24}],
        "buffers": [{"byteLength": len(data)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(data), 0x004E4942) + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


with gr.Blocks() as demo:
    depth = gr.Image(type="pil", label="Image to be used as the control")
    prompt = gr.Textbox(label="Prompt")
    seed = gr.Slider(0, 2147483647, value=0, step=1, label="Seed")
    randomize = gr.Checkbox(value=True, label="Randomize seed")
    width = gr.Slider(256, 2048, value=1024, step=32, label="Width")
    height = gr.Slider(256, 2048, value=1024, step=32, label="Height")
    guidance = gr.Slider(1, 30, value=10, step=0.1, label="Guidance scale")
    steps = gr.Slider(1, 50, value=28, step=1, label="Steps")
    picture = gr.Image(label="Result")
    gr.Button("Run").click(infer, [depth, prompt, seed, randomize, width, height, guidance, steps], [picture, seed], api_name="infer")
    image = gr.Image(type="pil", label="Input")
    cut = gr.Image(type="pil", label="Segmentation Result")
    # Hidden from the API's description, but not from the queue's data.
    session = gr.State()
    mesh_steps = gr.Slider(1, 100, value=50, step=1)
    cfg = gr.Slider(2, 10, value=7, step=0.1)
    grid = gr.Slider(256, 384, value=384, step=1)
    mesh_seed = gr.Slider(0, 2147483647, value=0, step=1)
    simplify = gr.Checkbox(value=False)
    faces = gr.Slider(1000, 1000000, value=100000, step=1000)
    mesh = gr.Model3D(label="Mesh")
    gr.Button("Cut").click(process_image, [image], [cut], api_name="process_image")
    gr.Button("Mesh").click(process_3d, [image, session, mesh_steps, cfg, grid, mesh_seed, simplify, faces], [mesh], api_name="process_3d")

# The published Space's name for it; `/info` takes it from the function.
demo.queue(max_size=2).launch(server_name="127.0.0.1", server_port=PORT, show_error=False, quiet=True)
