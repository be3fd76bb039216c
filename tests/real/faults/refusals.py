"""System calls that fail: EIO, EROFS, EDQUOT, EMFILE, EACCES, EAGAIN at each writer. Nothing is
sent unrecorded, nothing paid is lost."""

import subprocess
import time

from world import need

LOG = "ledger.sqlite-wal"


def ledger_refused_at_release(calls, error):
    """Any error of the system for a write or a sync of the ledger: nothing is sent until it is
    written."""
    def case(world):
        world.prepare().start()
        with world.broken(calls, f"error={error}", world.state / LOG):
            world.say("a clay owl")
            world.says("nothing was sent", str(world.ledger))
            world.stays(0.5, "nothing is sent", lambda: world.submits() == 0)
            world.alive()
        world.done()
    case.__name__ = f"ledger_refused_at_release_{error}_{calls[:5]}"
    return case


def ledger_refused_when_paid(calls, error):
    """The same when the id of a paid request must be written: it is written later, and the job is
    done once."""
    def case(world):
        world.prepare().start()
        world.order({"fault": {"hang": {"ms": 1200}}})
        world.say("a clay owl")
        world.wait("the submit arrives", lambda: world.submits() == 1)
        with world.broken(calls, f"error={error}", world.state / LOG):
            world.says("the request's id", str(world.ledger))
            world.alive()
        world.done()
    case.__name__ = f"ledger_refused_when_paid_{error}_{calls[:5]}"
    return case


def history_refused_at_inputs(error):
    """The staging folder cannot be created: nothing is sent, and the reason is reported."""
    def case(world):
        world.prepare().start()
        with world.broken("mkdir", f"error={error}"):
            world.say("a clay owl")
            world.says("nothing was sent", str(world.history))
            world.alive()
            assert world.submits() == 0
        world.done()
    case.__name__ = f"history_refused_at_inputs_{error}"
    return case


def out_of_file_handles(world):
    """No more file handles while it runs: nothing panics; when there are some again, the change is
    a job."""
    need("prlimit")
    world.prepare().start()
    few = ["prlimit", "--pid", str(world.pid()), "--nofile=12:4096"]
    subprocess.run(few, check=True)
    world.say("a clay owl")
    time.sleep(3)
    world.alive()
    subprocess.run(["prlimit", "--pid", str(world.pid()), "--nofile=1024:4096"], check=True)
    world.say("a clay fox")
    world.wait("a job is done", lambda: any(job["state"] == "done" for job in world.jobs()))
    world.whole()
    stats = world.stats()
    assert stats["submits"] <= 2 and stats["submits"] == stats["accepted"], stats
    world.alive()


def out_of_file_handles_during_a_job(world):
    """The same while a paid run is followed: it is followed, downloaded and placed when there are
    handles again."""
    need("prlimit")
    world.prepare(run_s=2).start()
    world.say("a clay owl")
    world.newest_is("running")
    subprocess.run(["prlimit", "--pid", str(world.pid()), "--nofile=10:4096"], check=True)
    time.sleep(4)
    world.alive()
    subprocess.run(["prlimit", "--pid", str(world.pid()), "--nofile=1024:4096"], check=True)
    world.done()
    world.alive()


def out_of_threads(world):
    """The system creates no more threads (a container's limit): work waits its turn on the existing
    ones."""
    world.prepare().start()
    # Longer than Tokio keeps an idle thread of its pool by default.
    time.sleep(11)
    with world.broken("clone,clone3", "error=EAGAIN"):
        world.say("a clay owl")
        time.sleep(2)
        world.alive()
    world.done()
    world.alive()


def log_folder_refused(world):
    """The log's folder cannot be written at the start: the daemon reports it and works anyway."""
    logs = world.mount(world.folder / "logs", "64k")
    world.remount(logs, "ro")
    world.settings["log"] = {"level": "debug", "dir": str(logs)}
    world.prepare().start()
    world.says(str(logs), "standard error")
    world.say("a clay owl")
    world.done()


def history_is_read_only(world):
    """The history becomes read-only (EROFS) under the running daemon, then in the middle of a paid
    job."""
    world.mount(world.history, "16m")
    world.prepare(run_s=1.5).start()
    world.remount(world.history, "ro")
    world.say("a clay owl")
    world.says("nothing was sent", "Read-only", str(world.history))
    world.remount(world.history, "rw")
    world.newest_is("submitted", "running")
    world.remount(world.history, "ro")
    world.says("Read-only", "waiting for the disk")
    world.remount(world.history, "rw")
    world.done()


CASES = [
    out_of_threads,
    *(ledger_refused_at_release(calls, error) for calls, error in
      [("pwrite64", "EIO"), ("pwrite64", "EDQUOT"), ("pwrite64", "EROFS"), ("fdatasync,fsync", "EIO")]),
    *(ledger_refused_when_paid(calls, error) for calls, error in [("pwrite64", "EIO"), ("fdatasync,fsync", "EIO"), ("pwrite64", "EDQUOT")]),
    *map(history_refused_at_inputs, ["EACCES", "EDQUOT", "EROFS"]),
    out_of_file_handles, out_of_file_handles_during_a_job, log_folder_refused, history_is_read_only,
]
