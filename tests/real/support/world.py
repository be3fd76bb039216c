"""A world for scripts that drive the real program: a simulator, a CONJURE project, a daemon, and
questions about them.

Owns processes and files below one temporary folder, and nothing outside. It ends only what it
started. It uses only Python's standard library. The checks of public files are written anew on
purpose: the crate's own could be wrong in the same way.
"""

import sys
sys.dont_write_bytecode = True
import atexit, contextlib, json, os, pathlib, random, shutil, signal, sqlite3, struct, subprocess, tempfile, threading, time
import urllib.request, zlib

ROOT = pathlib.Path(__file__).resolve().parents[3]
TOKEN = "a-made-up-token"
DEPLOYMENT = "simulated"
FINAL = ("done", "failed", "cancelled", "replaced", "unknown")
PUBLIC = ("data/generated_images/flux/flux.png",
          "data/generated_models/partpacker_results/result.glb",
          "data/generated_models/partpacker_results/partpacker_result_0.glb")

_started = []


@atexit.register
def _end_all():
    for process in _started:
        if process.poll() is None:
            process.kill()
            process.wait()


def binary(*features):
    """Returns the program: the one in CONJURED, or else a development build of this checkout."""
    named = os.environ.get("CONJURED")
    if named:
        return pathlib.Path(named).resolve()
    command = ["cargo", "build", "--quiet", "--locked"] + [f"--features={name}" for name in features]
    subprocess.run(command, cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "debug" / "conjured"


def scratch(name):
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"conjured-{name}-"))
    atexit.register(lambda: os.environ.get("KEEP") or shutil.rmtree(folder, ignore_errors=True))
    return folder


class Simulator:
    """`conjured simulator` as a separate process."""

    def __init__(self, program, folder, run_s=0.1, keep_warm_s=60, more=()):
        self.log = open(folder / "simulator.log", "ab")
        command = [program, "simulator", "--listen", "127.0.0.1:0", "--token", TOKEN, "--deployment", DEPLOYMENT,
                   "--cold-start-s", "0", "--run-s", str(run_s), "--keep-warm-s", str(keep_warm_s), *more]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log,
                                        env=environment(folder))
        _started.append(self.process)
        self.url = self.process.stdout.readline().decode().strip()
        self.control("balance", {"micro_usd": 10**12})

    def control(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_control/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def stats(self):
        return self.control("stats")

    def order(self, *orders):
        self.control("faults", list(orders))

    def clear(self):
        self.control("faults", method="DELETE")


def environment(folder, **more):
    home = folder / "home"
    home.mkdir(exist_ok=True)
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    return {**kept, "HOME": str(home), "TMPDIR": str(folder), "RUNCOMFY_API_TOKEN": TOKEN, **more}


def asking(path):
    """Opens a ledger for one query, and closes it even after an error.

        A connection that stays open is dangerous: code in this process that then reads the ledger's files (`durable`) releases its
        locks, and the next daemon truncates what is mapped here.
    """
    return contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5))


class Project:
    """A CONJURE checkout with its configuration and state folder."""

    def __init__(self, folder, api_url, level="info"):
        self.folder, self.root, self.state = folder, folder / "CONJURE", folder / "state"
        self.config = folder / "conjured.toml"
        self.config.write_text(f"""mode = "serverless"
[[project]]
name = "real"
root = "{self.root}"
[trigger]
prompt_quiet_ms = 100
render_quiet_ms = 300
min_interval_s = 0
max_jobs_per_hour = 3600
after_result_hold_s = 0
[serverless]
api_url = "{api_url}"
deployment_id = "{DEPLOYMENT}"
download_hosts = ["127.0.0.1"]
poll_min_ms = 50
poll_max_ms = 150
[budget]
per_session_usd = 0
[placement]
handoff = "off"
[page]
listen = ""
[log]
level = "{level}"
dir = "{folder / 'log'}"
""")
        self.prompt = self.root / "data/generated_text/userPrompt.txt"
        self.render = self.root / "data/generated_images/gestureCamera/render.png"
        for path in (self.prompt, self.render):
            path.parent.mkdir(parents=True)
        self.public = [self.root / name for name in PUBLIC]
        self.say("what was there before")
        self.film(random.Random(0))

    def say(self, words):
        self.prompt.write_text(words)

    def film(self, draw):
        """Saves a new picture, in two writes, as Blender does."""
        whole = png(draw)
        with open(self.render, "wb") as file:
            file.write(whole[: len(whole) // 2])
            file.flush()
            file.write(whole[len(whole) // 2:])

    def jobs(self):
        """Returns the ledger's jobs, oldest first; none while there is no ledger."""
        path = self.state / "ledger.sqlite"
        if not path.exists():
            return []
        try:
            with asking(path) as connection:
                connection.row_factory = sqlite3.Row
                rows = connection.execute(
                    """SELECT job.*, (SELECT request FROM attempt WHERE attempt.job = job.id AND request IS NOT NULL
                       ORDER BY number DESC LIMIT 1) AS request FROM job ORDER BY id""").fetchall()
            return [dict(row) for row in rows]
        except sqlite3.OperationalError:
            return []

    def count(self):
        """Returns how many jobs the ledger has."""
        with asking(self.state / "ledger.sqlite") as connection:
            return connection.execute("SELECT count(*) FROM job").fetchone()[0]

    def baseline(self):
        path = self.state / "ledger.sqlite"
        try:
            with asking(path) as connection:
                rows = connection.execute("SELECT baseline_prompt IS NOT NULL AND baseline_render IS NOT NULL FROM project").fetchall()
            return bool(rows) and bool(rows[0][0])
        except sqlite3.OperationalError:
            return False

    def sound(self):
        """Returns what is wrong with the ledger's file; nothing if it is intact."""
        with contextlib.closing(sqlite3.connect(self.state / "ledger.sqlite", timeout=5)) as connection:
            verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
        return None if verdict == "ok" else verdict

    def left_over(self):
        return [path for path in self.folder.rglob(".conjured-*.part")]


class Daemon:
    """`conjured run` as a separate process, perhaps started by another program (`strace …`)."""

    def __init__(self, program, project, before=(), **variables):
        self.project = project
        self.log = open(project.folder / "daemon.log", "ab")
        command = [*before, program, "--config", project.config, "--state-dir", project.state, "run"]
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, env=environment(project.folder, **variables))
        _started.append(self.process)

    def alive(self):
        return self.process.poll() is None

    def kill(self):
        self.process.kill()
        return self.wait()

    def kill_below(self):
        """Kills the program started by the other one, which ends with it: strace with `-o` accepts
        no signal meanwhile."""
        try:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        except OSError:
            return
        for child in children:
            os.kill(int(child), signal.SIGKILL)

    def wait(self):
        code = self.process.wait()
        _started.remove(self.process)
        self.log.close()
        return code

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


def until(what, look, seconds=None):
    """Waits for a condition, with a deadline: CONJURED_TEST_PATIENCE_S, as in the tests. It is
    generous, because a passing run never waits that long."""
    seconds = seconds or float(os.environ.get("CONJURED_TEST_PATIENCE_S", 150))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise SystemExit(f"FAILED: waited {seconds} s in vain: {what}")


# Files.

def png(draw, side=48):
    """Returns a small picture with more than one colour."""
    base = [draw.randrange(200) for _ in range(3)]
    rows = b"".join(b"\0" + b"".join(bytes((base[0] + x, base[1] + y, base[2])) for x in range(side)) for y in range(side))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_fault(data):
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return "no PNG signature"
    at, pixels = 8, b""
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if at + 12 + length > len(data) or struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0] != zlib.crc32(kind + body):
            return f"chunk {kind} is cut or damaged"
        at += 12 + length
        if kind == b"IDAT":
            pixels += body
        if kind == b"IEND":
            try:
                zlib.decompress(pixels)
            except zlib.error as error:
                return f"pixels: {error}"
            return None if at == len(data) else "bytes behind IEND"
    return "no IEND"


def glb_fault(data):
    if len(data) < 20 or data[:4] != b"glTF" or struct.unpack("<II", data[4:12]) != (2, len(data)):
        return f"the header does not fit {len(data)} bytes"
    length, kind = struct.unpack("<I4s", data[12:20])
    try:
        document = json.loads(data[20:20 + length])
        accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
        numbers = accessor["min"] + accessor["max"]
        at = 20 + length
        size, kind = struct.unpack("<I4s", data[at:at + 8])
        if kind != b"BIN\0" or at + 8 + size != len(data) or not data[at + 8:].strip(b"\0"):
            return "the binary chunk is cut or empty"
        return None if all(abs(number) < 1e9 for number in numbers) else "its bounds are not finite"
    except (ValueError, KeyError, IndexError, struct.error) as error:
        return f"the document: {error}"


def fault_of(path):
    """Returns what is wrong with a public file; nothing for a complete or missing one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return glb_fault(data) if path.suffix == ".glb" else png_fault(data)


class Reader(threading.Thread):
    """Polls public names as Blender does, in a loop, and records every time that a file was
    incomplete."""

    def __init__(self, projects, pace=0.002):
        super().__init__(daemon=True)
        self.projects, self.pace, self.looks, self.bad, self.over = projects, pace, 0, [], False

    def run(self):
        while not self.over:
            for project in self.projects:
                for path in project.public:
                    fault = fault_of(path)
                    self.looks += path.exists()
                    if fault:
                        self.bad.append(f"{path}: {fault}")
            time.sleep(self.pace)

    def finish(self):
        self.over = True
        self.join()


# Trouble.

def order(fault, on=None, only=None, times=1):
    slip = {"fault": fault, "times": times}
    if on:
        slip["on"] = on
    if only:
        slip["only"] = only
    return slip


# What a service, a storage and a network do, and how a job may end because of it: nothing, a lost
# answer, a failed run.
TROUBLE = [
    ("status 503 ×2", [order({"http": {"status": 503}}, on="status", times=2)]),
    ("status HTML", [order("html_body", on="status")]),
    ("result 500", [order({"http": {"status": 500}}, on="result")]),
    ("result half a JSON", [order("invalid_json", on="result")]),
    ("status answer dropped", [order("accept_then_drop", on="status")]),
    ("submit 429", [order({"http": {"status": 429, "retry_after": "1"}})]),
    ("submit answer dropped", [order("accept_then_drop")]),
    ("submit answer unreadable", [order("invalid_json")]),
    ("submit answer late", [order({"hang": {"ms": 400}})]),
    ("downloads cut", [order({"cut_at": {"fraction": 0.5}}, only="image"), order({"cut_at": {"fraction": 0.7}}, only="mesh")]),
    ("download slow", [order({"slow_stream": {"bytes_per_second": 1500000}}, only="mesh")]),
    ("no ranges, and a cut", [order({"cut_at": {"fraction": 0.3}}, only="mesh"), order("no_range", only="mesh")]),
    ("run fails", [order({"run_fails": {"code": 10011}})]),
    ("mesh broken", [order({"file": {"product": "mesh", "content": "cut"}})]),
    ("picture as WebP", [order({"file": {"product": "image", "content": "webp"}})]),
    ("odd result", [order("colon_ids"), order("equal_names"), order("temp_previews")]),
    ("cancel answer dropped", [order("accept_then_drop", on="cancel")]),
]
