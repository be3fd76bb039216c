"""One case's world: a simulator, a project, a state folder, the daemon, and questions about the
result.

Owns every child and every mount of a case and ends them with it. Waits are for conditions, with a
deadline.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import select
import shutil
import signal
import struct
import subprocess
import threading
import time
import urllib.request
import zlib

BINARY = None
TOKEN = "simulated"
PATIENCE = float(os.environ.get("CONJURED_TEST_PATIENCE_S", "60"))
LIBC = ctypes.CDLL(None, use_errno=True)
FORK = threading.Lock()


class Skipped(Exception):
    """Something that this case needs is not available."""


def need(tool):
    if not shutil.which(tool):
        raise Skipped(f"there is no {tool}")


def png(scene, side=48):
    """A small picture, different for each scene."""
    rows = b"".join(
        b"\0" + bytes(v for x in range(side) for v in ((x * 5 + scene * 31) % 256, (y * 3) % 256, (scene * 7) % 256))
        for y in range(side)
    )
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def fault_of(path):
    """Returns what is wrong with a public file; None if it exists and is complete."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"{path}: {error}"
    if path.suffix == ".glb":
        if data[:4] != b"glTF" or len(data) < 20 or struct.unpack("<I", data[8:12])[0] != len(data):
            return f"{path}: no whole GLB of {len(data)} bytes"
        length = struct.unpack("<I", data[12:16])[0]
        json.loads(data[20 : 20 + length])
        return None
    at = 8
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        body = data[at + 4 : at + 8 + length]
        if zlib.crc32(body) != struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0]:
            return f"{path}: a bad CRC"
        if body[:4] == b"IEND":
            return None
        at += 12 + length
    return f"{path}: no whole PNG of {len(data)} bytes"


class World:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.folder.chmod(0o755)
        self.mounts, self.children, self.fillers = [], [], {}
        self.simulator = self.daemon = None
        self.settings = {
            "trigger": {"prompt_quiet_ms": 100, "render_quiet_ms": 300, "min_interval_s": 0, "max_jobs_per_hour": 3600,
                        "after_result_hold_s": 0},
            "serverless": {"poll_min_ms": 50, "poll_max_ms": 200, "download_hosts": ["127.0.0.1"], "deployment_id": "simulated"},
            "budget": {"per_session_usd": 0},
            "placement": {"handoff": "off"},
            "page": {"listen": ""},
            "log": {"level": "debug", "dir": "-"},
        }
        self.root, self.state = self.folder / "CONJURE", self.folder / "state"
        self.home = self.folder / "home"
        self.home.mkdir()
        self.stderr = self.folder / "stderr"
        self.env = {"HOME": str(self.home), "RUNCOMFY_API_TOKEN": TOKEN, "TMPDIR": str(self.folder), "PATH": os.environ["PATH"]}

    # Surroundings.

    def prepare(self, **simulator):
        """Makes the project and starts the service."""
        for path in (self.prompt, self.render):
            path.parent.mkdir(parents=True, exist_ok=True)
        self.say("a placeholder from yesterday")
        self.film(0)
        self.serve(**simulator)
        return self

    def serve(self, run_s=0.3, cold_start_s=0, keep_warm_s=60):
        line = [BINARY, "-q", "simulator", "--listen", "127.0.0.1:0", "--token", TOKEN, "--run-s", str(run_s),
                "--cold-start-s", str(cold_start_s), "--keep-warm-s", str(keep_warm_s)]
        self.simulator = self.spawn(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        ready, _, _ = select.select([self.simulator.stdout], [], [], PATIENCE)
        assert ready, "the simulator says where it is"
        self.api = self.simulator.stdout.readline().decode().strip()
        self.settings["serverless"]["api_url"] = self.api
        self.save()

    def save(self, text=None):
        config = self.folder / "config.toml"
        if text is None:
            value = lambda v: json.dumps(v) if not isinstance(v, bool) else str(v).lower()
            text = f'mode = "serverless"\n\n[[project]]\nname = "test"\nroot = {json.dumps(str(self.root))}\n'
            for section, keys in self.settings.items():
                text += f"\n[{section}]\n" + "".join(f"{key} = {value(v)}\n" for key, v in keys.items())
        config.write_text(text)

    def spawn(self, line, **options):
        # One fork at a time: a mask or a limit that one case's child sets for itself must not
        # reach another's.
        with FORK:
            child = subprocess.Popen([str(part) if not isinstance(part, bytes) else part for part in line],
                                     stdin=options.pop("stdin", subprocess.DEVNULL), **options)
        self.children.append(child)
        return child

    def mount(self, folder, size="2m", kind="tmpfs"):
        """Mounts a separate file system at `folder`, and checks that it is one."""
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", kind, "-o", f"size={size},mode=0755", "conjured-test", str(folder)], check=True)
        self.mounts.append(folder)
        assert folder.stat().st_dev != folder.parent.stat().st_dev, f"{folder} is a file system of its own"
        return folder

    def bind(self, folder, read_only=False):
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
        self.mounts.append(folder)
        if read_only:
            self.remount(folder, "ro")

    def remount(self, folder, how):
        subprocess.run(["mount", "-o", f"remount,bind,{how}", str(folder)], check=True)

    def unmount(self, folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)
        self.mounts.remove(folder)

    def fill(self, folder):
        """Fills a small file system completely."""
        assert folder in self.mounts and folder.stat().st_dev != self.folder.stat().st_dev, "never fill anything else"
        filler = folder / "filler"
        assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize < 64 << 20, "only a small one"
        with open(filler, "ab", buffering=0) as file:
            for size in (1 << 16, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        return filler

    def free(self, folder):
        (folder / "filler").unlink()

    # The project.

    prompt = property(lambda self: self.root / "data/generated_text/userPrompt.txt")
    render = property(lambda self: self.root / "data/generated_images/gestureCamera/render.png")
    models = property(lambda self: self.root / "data/generated_models/partpacker_results")
    history = property(lambda self: self.state / "history")
    ledger = property(lambda self: self.state / "ledger.sqlite")

    @property
    def public(self):
        return [self.root / "data/generated_images/flux/flux.png", self.models / "result.glb",
                self.models / "partpacker_result_0.glb"]

    def say(self, words):
        data = words if isinstance(words, bytes) else words.encode()
        temporary = self.prompt.with_name("next")
        temporary.write_bytes(data)
        temporary.rename(self.prompt)

    def film(self, scene):
        self.render.write_bytes(png(scene))

    # The daemon.

    def start(self, wrap=(), ready=True, arguments=(), line=None, env=None, **options):
        """Starts it; with `ready`, waits until it has scanned its inputs."""
        line = line or [*wrap, BINARY, "--config", self.folder / "config.toml", "--state-dir", self.state, *arguments, "run"]
        options.setdefault("cwd", self.folder)
        with open(self.stderr, "ab") as log:
            options.setdefault("stderr", log)
            options.setdefault("stdout", subprocess.DEVNULL)
            self.daemon = self.spawn(line, env=self.env if env is None else env, **options)
        if ready:
            def looked():
                assert self.daemon.poll() is None, f"it ended by itself with {self.daemon.returncode}"
                status = self.status()
                # The very first status contains no project yet.
                return status and status["projects"] and status["projects"][0]["prompt"]["state"] != "unseen" and \
                    status["projects"][0]["render"]["state"] != "unseen"
            self.wait("the daemon looks at its inputs", looked)
        return self.daemon

    def cli(self, *arguments, **options):
        with FORK:
            process = subprocess.Popen([BINARY, "--config", self.folder / "config.toml", "--state-dir", self.state, *arguments],
                                       env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       cwd=self.folder, **options)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def status(self):
        answer = self.cli("status", "--json")
        return json.loads(answer.stdout) if answer.returncode == 0 else None

    def said(self):
        """Returns everything that a user sees of the daemon's state, as one text."""
        return json.dumps(self.status(), ensure_ascii=False)

    def jobs(self):
        answer = self.cli("jobs", "list", "--json")
        if answer.returncode != 0:
            return []
        found = json.loads(answer.stdout)
        return found["jobs"] if isinstance(found, dict) else found

    def log(self):
        return self.stderr.read_text(errors="replace") if self.stderr.exists() else ""

    def pid(self):
        return self.daemon.pid

    def ended(self, patience=PATIENCE):
        return self.daemon.wait(timeout=patience)

    def stop(self, how=signal.SIGTERM):
        self.daemon.send_signal(how)
        return self.ended()

    @contextlib.contextmanager
    def broken(self, calls, error, path=None):
        """Makes these system calls of the running daemon fail (those on `path` only)."""
        need("strace")
        line = ["strace", "-f", "-qq", "-p", str(self.pid()), "-o", self.folder / "strace"]
        for one in [path] if isinstance(path, (str, pathlib.Path)) else path or []:
            line += ["-P", one]
        line += ["-e", f"trace={calls}", "-e", f"inject={calls}:{error}"]
        with open(self.folder / "strace.err", "wb") as err:
            tracer = self.spawn(line, stderr=err)
        traced = lambda: any("TracerPid:\t0" not in status.read_text() for status in
                             pathlib.Path(f"/proc/{self.pid()}/task/{self.pid()}").glob("status"))
        self.wait("strace holds it", lambda: traced() or tracer.poll() is not None)
        if tracer.poll() is not None:
            raise Skipped("strace may not attach: " + (self.folder / "strace.err").read_text()[:200])
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(timeout=PATIENCE)

    # The service.

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api}/_control/{path}", data=data, method=method,
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    def stats(self):
        return self.ask("GET", "stats")

    def submits(self):
        return self.stats()["submits"]

    def order(self, order):
        return self.ask("POST", "faults", order)

    # Conditions.

    def wait(self, what, look, patience=PATIENCE):
        end = time.monotonic() + patience
        while True:
            found = look()
            if found:
                return found
            assert time.monotonic() < end, f"waited {patience:.0f} s in vain: {what}"
            time.sleep(0.03)

    def stays(self, seconds, what, holds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert holds(), f"it did not stay so: {what}"
            time.sleep(0.03)

    def newest_is(self, *states):
        return self.wait(f"the newest job is {states}", lambda: next(
            (job for job in self.jobs()[:1] if job["state"] in states), None))

    def says(self, *words):
        """Waits until the status contains all of these words."""
        seen = {}
        def look():
            seen["text"] = self.said()
            return all(word in seen["text"] for word in words)
        try:
            self.wait(f"the status says {words}", look)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {seen.get('text')}") from None

    def done(self, count=1, submits=None):
        """Waits for this many finished jobs, and checks that each was paid once and that the public
        files are complete."""
        self.wait(f"{count} jobs are done", lambda: sum(job["state"] == "done" for job in self.jobs()) == count)
        self.whole()
        stats = self.stats()
        expected = count if submits is None else submits
        assert (stats["submits"], stats["accepted"]) == (expected, expected), f"paid once each: {stats['submits']} submits"

    def whole(self):
        faults = [fault for fault in map(fault_of, self.public) if fault]
        assert not faults, faults
        left = [str(path) for path in self.root.rglob(".conjured-*.part")]
        assert not left, f"left over: {left}"

    def alive(self):
        assert self.daemon.poll() is None, f"the daemon ended with {self.daemon.returncode}"
        assert "panicked at" not in self.log(), "the daemon panicked"

    # The end.

    def tail(self):
        return "--- the daemon's last words:\n" + "\n".join(self.log().splitlines()[-25:]) + "\n"

    def end(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.kill()
        for child in self.children:
            child.wait()
            if child.stdout:
                child.stdout.close()
        for folder in reversed(self.mounts):
            subprocess.run(["umount", "-l", str(folder)], capture_output=True)
