"""What CONJURE does inside Blender, as far as a daemon can see it: run by a real Blender, or by
Python with its module `bpy`.

    blender -b --factory-startup --python conjure.py -- ROOT EVENTS
    python3.11 conjure.py -- ROOT EVENTS

Owns the modal operator (it checks `data/input/state.json` thirty times a second, with three reads
each), the import in the add-on's order (the artist's mesh is deleted *before* the new one is read),
and the auto-refresh, which renders GestureCamera into the watched file three seconds after each
run, changed or not. One thread does all of it, as in Blender: while it renders or imports, it
checks nothing. It reports what it did on the file handle EVENTS, one JSON object per line, and
takes orders on standard input, one JSON object per line; ROOT is the checkout. This is not
CONJURE's own code, but it was written from reading and measuring it; what it leaves out (hands,
voice, panels, the fine alignment) changes no file. Cycles renders instead of EEVEE, which needs a
display.
"""

import hashlib
import json
import os
import select
import struct
import sys
import time

import bpy  # as a module it brings the others along, so it comes first
import bmesh
import numpy
from mathutils import Matrix, Vector

if not hasattr(numpy, "bool"):
    numpy.bool = bool  # Blender 3.4's glTF add-on asks for the name that numpy 1.24 took away.

ROOT, EVENTS = sys.argv[sys.argv.index("--") + 1:]
EVENTS = os.fdopen(int(EVENTS), "w")
STATE = os.path.join(ROOT, "data/input/state.json")
RENDER = os.path.join(ROOT, "data/generated_images/gestureCamera/render.png")
IMPORT = "import_and_process_mesh"
TICK, REFRESH = 1 / 30, 3.0
SIDE = 1024


def tell(kind, **facts):
    EVENTS.write(json.dumps({"event": kind, **facts}) + "\n")
    EVENTS.flush()


def trap(words):
    tell("trap", words=words)


# The scene.

def at_the_start():
    """A lump of clay in front of the camera, as plain as CONJURE's first scene."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=4, radius=0.8)
    clay = bpy.context.object
    clay.name = "Mesh"
    for vertex in clay.data.vertices:
        x, y, z = vertex.co
        vertex.co *= 1 + 0.25 * x * y - 0.2 * z * abs(x)
    dress(clay)
    camera = bpy.data.objects.new("GestureCamera", bpy.data.cameras.new("GestureCamera"))
    camera.location = (0, -4, 1.6)
    camera.rotation_euler = (-camera.location).to_track_quat("-Z", "Y").to_euler()
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.rotation_euler, sun.data.energy, sun.data.angle = (0.7, 0.3, 0.5), 3, 0
    for thing in (camera, sun):
        scene.collection.objects.link(thing)
    scene.camera = camera
    scene.world = bpy.data.worlds.new("World")
    scene.world.color = (0.05, 0.05, 0.05)
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples, scene.cycles.max_bounces = "CPU", 1, 0
    scene.cycles.use_denoising = False  # Debian builds Blender without a denoiser
    scene.render.resolution_x = scene.render.resolution_y = SIDE
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"


def dress(thing):
    clay = bpy.data.materials.get("Clay") or bpy.data.materials.new("Clay")
    clay.diffuse_color = (0.8, 0.7, 0.6, 1)
    thing.data.materials.clear()
    thing.data.materials.append(clay)


# The auto-refresh.

def render():
    scene = bpy.context.scene
    began = time.monotonic()
    scene.render.filepath = RENDER
    bpy.ops.render.render(write_still=True)
    took = time.monotonic() - began
    with open(RENDER, "rb") as file:
        data = file.read()
    pixels, texts, at = hashlib.sha256(), {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind in (b"IHDR", b"IDAT"):
            pixels.update(body)
        elif kind == b"tEXt":
            key, value = body.split(b"\0", 1)
            texts[key.decode("latin-1")] = value.decode("latin-1")
        at += 12 + length
    tell("render", bytes=hashlib.sha256(data).hexdigest(), pixels=pixels.hexdigest(), size=len(data),
         side=struct.unpack(">II", data[16:24]), texts=texts, took=took)


# The import.

def corners(things):
    points = [thing.matrix_world @ Vector(corner) for thing in things for corner in thing.bound_box]
    return [[pick(point[axis] for point in points) for axis in range(3)] for pick in (min, max)]


def volume(thing):
    shape = bmesh.new()
    shape.from_mesh(thing.data)
    shape.transform(thing.matrix_world)
    found = abs(shape.calc_volume())
    shape.free()
    return found


def read_gltf(path):
    """Reads a file as the add-on does; returns the new meshes."""
    before = set(bpy.data.objects)
    bpy.ops.import_scene.gltf(filepath=path)
    bpy.context.view_layer.update()
    return [thing for thing in bpy.data.objects if thing not in before and thing.type == "MESH"]


def measured(things):
    return [{"name": thing.name, "vertices": len(thing.data.vertices), "faces": len(thing.data.polygons),
             "bounds": corners([thing]), "volume": volume(thing)} for thing in things]


def import_mesh():
    """`conjure.import_and_process_mesh`, with its order of steps."""
    state = read_state()
    path = (state or {}).get("mesh_path")
    if not path or not os.path.exists(path):
        tell("import", path=path, ok=False, why="there is no such file")
        return
    if not os.path.isabs(path):
        trap(f"a relative path: {path}")
    threshold = state.get("min_volume_threshold", 0.001)
    for thing in list(bpy.data.objects):
        if thing.name == "Mesh" or thing.name.startswith("seg_"):
            bpy.data.objects.remove(thing, do_unlink=True)
    bpy.ops.mesh.primitive_cube_add(size=2)
    cube = bpy.context.object
    cube.name = "Mesh"
    cube.hide_viewport = cube.hide_render = True
    # From here on the artist's work is gone, whatever is at the path.
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    try:
        parts = read_gltf(path)
    except Exception as error:  # the real operator prints it and goes on
        tell("import", path=path, ok=False, why=str(error), digest=digest)
        return
    if "genMesh" in path and len(parts) == 1:
        trap(f"the path holds genMesh, which splits the mesh: {path}")
    found = sorted(((volume(part), part) for part in parts), key=lambda pair: -pair[0])
    kept = [part for size, part in found if size >= threshold]
    for number, part in enumerate(kept, 1):
        part.name = f"seg_{number}"
        dress(part)
    for size, part in found:
        if size < threshold:
            bpy.data.objects.remove(part, do_unlink=True)
    if kept:
        low, high = corners(kept)
        scale = 2 / max(high[axis] - low[axis] for axis in range(3))
        centre = Vector((low[axis] + high[axis]) / 2 for axis in range(3))
        for part in kept:
            part.matrix_world = Matrix.Scale(scale, 4) @ Matrix.Translation(-centre) @ part.matrix_world
        bpy.context.view_layer.update()
    tell("import", path=path, ok=bool(kept), why="" if kept else "every part is below the threshold", digest=digest,
         parts=measured(kept), dropped=len(parts) - len(kept))


# The operator.

KEYS = set()


def read_state():
    with open(STATE, "rb") as file:
        data = file.read()
    if not data.isascii():
        trap("state.json is not ASCII: CONJURE's readers die of it")
    try:
        state = json.loads(data)
    except ValueError as error:
        trap(f"a torn state.json of {len(data)} bytes: {error}")
        return None
    lost = KEYS - set(state)
    if lost:
        trap(f"state.json has lost {sorted(lost)}")
    KEYS.update(state)
    if any(IMPORT in key or key != "command" and IMPORT in str(value) for key, value in state.items()):
        trap(f"the command stands elsewhere: {state}")
    return state


def tick():
    read_state(), read_state()
    snapshot = read_state()
    # The real one searches for the text in every key and value.
    if snapshot is None or IMPORT not in json.dumps(snapshot):
        return
    import_mesh()
    # Writes the earlier snapshot back, truncated and in place.
    snapshot["command"] = None
    with open(STATE, "w") as file:
        json.dump(snapshot, file, indent=2)


def obey(order):
    """Returns whether to go on."""
    word = order["order"]
    if word == "sculpt":
        things = [thing for thing in bpy.data.objects if thing.type == "MESH" and not thing.hide_render]
        for thing in things:
            thing.matrix_world = Matrix.Translation(order["by"]) @ thing.matrix_world
        tell("sculpted", things=[thing.name for thing in things])
    elif word == "inspect":
        things = []
        try:
            things = read_gltf(order["path"])
            tell("inspected", path=order["path"], parts=measured(things), why="")
        except Exception as error:
            tell("inspected", path=order["path"], parts=[], why=str(error))
        for thing in things:
            bpy.data.objects.remove(thing, do_unlink=True)
    return word != "end"


def live():
    at_the_start()
    tell("ready", version=bpy.app.version_string)
    due, going, rest = time.monotonic(), True, b""
    while going:
        tick()
        if time.monotonic() >= due:
            render()
            due = time.monotonic() + REFRESH
        if select.select([0], [], [], TICK)[0]:
            came = os.read(0, 65536)
            *lines, rest = (rest + came).split(b"\n")
            going = bool(came) and all([obey(json.loads(line)) for line in lines])


try:
    live()
except BaseException as error:  # whatever it is must reach the other side
    tell("died", why=f"{type(error).__name__}: {error}")
    raise
finally:
    sys.stdout.flush()
    # The module `bpy` does not survive a normal exit of Python.
    os._exit(0)
