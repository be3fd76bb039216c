"""What bash cannot measure: microseconds, /proc of a running process, floods of writes. One word
runs one measurement.

Each prints one line of `name=value` pairs for whole.sh, and fails if there was nothing to measure.
They use only files, /proc, the daemon's own socket and the simulator.
"""

import ctypes
import datetime
import http.client
import json
import os
import random
import socket
import sqlite3
import struct
import sys
import threading
import time
import urllib.request
import zlib

PROMPT = "data/generated_text/userPrompt.txt"
RENDER = "data/generated_images/gestureCamera/render.png"
TICKS = os.sysconf("SC_CLK_TCK")


def tell(**values):
    print(" ".join(f"{name}={value}" for name, value in values.items()))


def png(side, grain, seed):
    """A shaded body with grain, as RGBA: CONJURE's own renders of 1024 x 1024 have some 550 KB."""
    noise = random.Random(seed)
    rows = []
    for y in range(side):
        row = bytearray()
        for x, grit in zip(range(side), noise.randbytes(side)):
            light = 40 + max(0, 160 - ((x - side // 2) ** 2 + (y - side // 2) ** 2) * 640 // side**2) + grit % grain
            row += bytes((min(light, 255), min(light // 2 + 30, 255), 70, 255))
        rows.append(b"\0" + bytes(row))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    pixels = zlib.compress(b"".join(rows), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def put(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def replace(path, data):
    put(path + ".new", data)
    os.replace(path + ".new", path)


def lines(path):
    with open(path) as file:
        return dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)


def memory(pid, what="VmRSS"):
    return int(lines(f"/proc/{pid}/status")[what].split()[0])


def switches(pid):
    """Returns the context switches of every thread: each is one wake-up, or one preemption by
    another process."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            status = lines(f"/proc/{pid}/task/{thread}/status")
        except OSError:
            continue
        found[thread] = tuple(int(status[kind + "_ctxt_switches"]) for kind in ("voluntary", "nonvoluntary"))
    return found


def cpu(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def written(pid):
    return int(lines(f"/proc/{pid}/io")["write_bytes"])


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("daemon", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def status(path, query=""):
    connection = Unix(path)
    connection.request("GET", "/v1/status" + query)
    return json.load(connection.getresponse())


def project(root, side="1024", seed="1"):
    """Makes the two inputs of a project."""
    put(f"{root}/{PROMPT}", b"A chair in the shape of a carrot")
    put(f"{root}/{RENDER}", png(int(side), 6, int(seed)))


def projects(folder, count, side="1024"):
    """Creates many projects, each with its own inputs and a render of this size (one file with
    many names)."""
    project(f"{folder}/p0", side)
    for number in range(1, int(count)):
        root = f"{folder}/p{number}"
        put(f"{root}/{PROMPT}", b"A chair in the shape of a carrot")
        os.makedirs(os.path.dirname(f"{root}/{RENDER}"))
        os.link(f"{folder}/p0/{RENDER}", f"{root}/{RENDER}")


def idle(pid, seconds):
    before, bytes_before, spent = switches(pid), written(pid), cpu(pid)
    time.sleep(float(seconds))
    after = switches(pid)
    asked = sum(pair[0] - before.get(thread, (0, 0))[0] for thread, pair in after.items())
    lost = sum(pair[1] - before.get(thread, (0, 0))[1] for thread, pair in after.items())
    tell(
        wakeups=round((asked + lost) / float(seconds), 3),
        voluntary=asked,
        involuntary=lost,
        rss_mb=round(memory(pid) / 1024, 1),
        peak_mb=round(memory(pid, "VmHWM") / 1024, 1),
        written=written(pid) - bytes_before,
        cpu=round(cpu(pid) - spent, 3),
        threads=len(after),
    )


def noticed(root, rounds):
    """Puts a new prompt in place and waits for the daemon to open it: the kernel reports that to us
    as it reported the change to the daemon. This process watches the directory too, so the cost
    of its own inotify is included once."""
    libc = ctypes.CDLL(None, use_errno=True)
    path = f"{root}/{PROMPT}"
    ear = libc.inotify_init1(os.O_CLOEXEC)
    opened, moved = 0x20, 0x80
    libc.inotify_add_watch(ear, os.path.dirname(path).encode(), opened | moved)
    spans, own = [], []
    for number in range(int(rounds)):
        # Slower than the prompt's window, which would start a job, and faster than its maximum
        # wait: a burst, then a pause.
        time.sleep(0.12 + random.random() / 20)
        put(path + ".new", f"A chair, number {number}".encode())
        began = time.perf_counter()
        os.replace(path + ".new", path)
        mine, theirs = None, None
        while theirs is None:
            data, offset = os.read(ear, 4096), 0
            now = time.perf_counter()
            while offset < len(data):
                _, mask, _, length = struct.unpack_from("iIII", data, offset)
                name = data[offset + 16 : offset + 16 + length].rstrip(b"\0").decode()
                offset += 16 + length
                if name == os.path.basename(path):
                    mine = now if mask & moved else mine
                    theirs = now if mask & opened else theirs
        spans.append(theirs - began)
        own.append(mine - began)
    spans.sort(), own.sort()
    at = lambda values, share: round(values[int((len(values) - 1) * share)] * 1000, 3)
    tell(median_ms=at(spans, 0.5), p99_ms=at(spans, 0.99), inotify_ms=at(own, 0.5), rounds=len(spans))


def storm(root, pid, seconds, count):
    """Writes to both inputs in turn, in place, evenly over the time. Every write has new
    content."""
    prompt, render = f"{root}/{PROMPT}", f"{root}/{RENDER}"
    renders = [png(48, 8, seed) for seed in range(64)]
    began, spent = time.perf_counter(), cpu(pid)
    pace = float(seconds) / int(count)
    for number in range(int(count)):
        # Renders alternate between 64 different ones; the last one is a new picture.
        last = number >= int(count) - 2
        data = f"A chair, number {number}".encode() if number % 2 else png(48, 8, 99) if last else renders[number // 2 % 64]
        file = os.open(prompt if number % 2 else render, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(file, data)
        os.close(file)
        while time.perf_counter() < began + number * pace:
            pass
    took = time.perf_counter() - began
    tell(took_s=round(took, 2), cpu_share=round((cpu(pid) - spent) / took, 3), last=f"number_{int(count) - 1}")


def ready(path, patience=30):
    """Waits for the first answer of a daemon that is just starting; prints the milliseconds since
    this call."""
    began = time.perf_counter()
    while time.perf_counter() - began < float(patience):
        try:
            status(path)
            return (time.perf_counter() - began) * 1000
        except (OSError, http.client.HTTPException):
            time.sleep(0.0005)
    raise SystemExit("no answer")


def start(path, *command):
    """Starts a daemon, waits for its first answer, and stops it again."""
    import subprocess

    spans = []
    for _ in range(5):
        began = time.perf_counter()
        daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        ready(path)
        spans.append((time.perf_counter() - began) * 1000)
        daemon.terminate()
        daemon.wait()
    spans.sort()
    tell(median_ms=round(spans[2], 1), least_ms=round(spans[0], 1), most_ms=round(spans[-1], 1))


def command(rounds, *words):
    """Measures how long a command takes, including the start of the process."""
    import subprocess

    spans = []
    for _ in range(int(rounds)):
        began = time.perf_counter()
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        spans.append((time.perf_counter() - began) * 1000)
    spans.sort()
    tell(median_ms=round(spans[len(spans) // 2], 1), most_ms=round(spans[-1], 1))


def ledger(path, count):
    """Copies the only job of a ledger many times, with all its rows."""
    raw = sqlite3.connect(path)
    raw.executescript(f"""
        PRAGMA defer_foreign_keys = ON;
        CREATE TEMP TABLE number AS WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count
            WHERE n < {int(count)}) SELECT n FROM count;
        CREATE TEMP TABLE first AS SELECT * FROM job WHERE state = 'done' LIMIT 1;
        CREATE TEMP TABLE copy AS SELECT first.*, n FROM first, number;
        UPDATE copy SET id = printf('01%024d', n), created_at = created_at - 240000 * n,
            ended_at = ended_at - 240000 * n, body_digest = randomblob(32);
        ALTER TABLE copy DROP COLUMN n;
        BEGIN;
        PRAGMA defer_foreign_keys = ON;
        INSERT INTO job SELECT * FROM copy;
        INSERT INTO event (job, at, kind, note)
            SELECT copy.id, at, kind, note FROM copy, event WHERE event.job = (SELECT id FROM first);
        CREATE TEMP TABLE tries AS SELECT attempt.*, copy.id AS other FROM copy, attempt
            WHERE attempt.job = (SELECT id FROM first);
        UPDATE tries SET job = other, request = NULL;
        ALTER TABLE tries DROP COLUMN other;
        INSERT INTO attempt SELECT * FROM tries;
        CREATE TEMP TABLE things AS SELECT artifact.*, copy.id AS other FROM copy, artifact
            WHERE artifact.job = (SELECT id FROM first);
        UPDATE things SET job = other;
        ALTER TABLE things DROP COLUMN other;
        INSERT INTO artifact SELECT * FROM things;
        COMMIT;
        PRAGMA wal_checkpoint(TRUNCATE);
    """)
    tell(jobs=raw.execute("SELECT count(*) FROM job").fetchone()[0])


def until_done(path, pid, patience):
    """Waits until the project has no job; prints the highest memory use and when the public files
    changed."""
    most, began = 0, time.perf_counter()
    started = False
    while time.perf_counter() - began < float(patience):
        most = max(most, memory(pid))
        project = status(path)["projects"][0]
        started |= project["job"] is not None
        if started and project["job"] is None:
            tell(peak_mb=round(most / 1024, 1), took_s=round(time.perf_counter() - began, 2))
            return
        time.sleep(0.02)
    raise SystemExit(f"the job {'did not end' if started else 'did not start'} in {patience} s: {project}")


def placed(root, image, mesh, patience):
    """Waits until both public files are new; prints the wall time of the later one's appearance."""
    files = [f"{root}/{image}", f"{root}/{mesh}"]
    age = lambda name: os.stat(name).st_ino if os.path.exists(name) else 0
    old = [age(name) for name in files]
    began = time.perf_counter()
    while time.perf_counter() - began < float(patience):
        if all(age(name) != was for name, was in zip(files, old)):
            tell(at=round(time.time(), 4))
            return
        time.sleep(0.001)
    raise SystemExit("nothing was placed")


def control(api, word, body=None):
    data = body and body.encode()
    with urllib.request.urlopen(f"{api}/_control/{word}", data, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def order(api, fault):
    """Orders a fault of the simulator."""
    control(api, "faults", fault)


def requests(api, placed_at=None):
    """Reports what the simulator was sent. With a time of placement: how long after the end of the
    last run it was."""
    stats = control(api, "stats")
    last = stats["requests"][-1] if stats["requests"] else {}
    late = {}
    if placed_at:
        ended = datetime.datetime.fromisoformat(last["finished_at"].rstrip("Z")).replace(tzinfo=datetime.timezone.utc)
        late = {"late_ms": round((float(placed_at) - ended.timestamp()) * 1000)}
    tell(
        count=len(stats["requests"]),
        prompt=last.get("prompt", "").replace(" ", "_") or "none",
        status_calls=last.get("status_calls", 0),
        result_calls=last.get("result_calls", 0),
        **late,
    )


def sent(api, words, patience):
    """Waits until the simulator is sent a prompt with this ending."""
    began = time.perf_counter()
    while time.perf_counter() - began < float(patience):
        prompts = [request["prompt"] for request in control(api, "stats")["requests"]]
        if any(prompt.endswith(words) for prompt in prompts):
            tell(sent_s=round(time.perf_counter() - began, 2))
            return
        time.sleep(0.1)
    raise SystemExit(f"no prompt ending in `{words}` was sent in {patience} s, but {prompts}")


def touch(root, words):
    replace(f"{root}/{PROMPT}", words.encode())


if __name__ == "__main__":
    word, *rest = sys.argv[1:]
    answer = globals()[word](*rest)
    if isinstance(answer, float):
        tell(ms=round(answer, 1))
