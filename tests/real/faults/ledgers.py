"""The ledger damaged, locked, foreign, too new, read-only, gone: nothing is sent without one, and
the message says what to do."""

import os
import signal
import sqlite3
import subprocess
import time

from world import need


def used(world):
    """A world whose ledger holds one job that is done."""
    world.prepare().start()
    world.say("a clay owl")
    world.done()
    assert world.stop() == 0
    return world


def refused(world, codes, *words):
    """Starts the daemon, which must end with one of these codes and all of these words, without
    having sent anything."""
    before = world.submits()
    world.stderr.write_text("")
    world.say("a clay fox, while there is no ledger")
    world.start(ready=False)
    code = world.ended(20)
    text = world.log()
    assert code in codes, (code, text)
    assert all(word in text for word in words), (words, text)
    assert "panicked" not in text, text
    assert world.submits() == before, "nothing was sent"


def damaged_in_the_middle(world):
    """Damage inside the file: whether it is detected or not, nothing is sent twice and nothing
    panics."""
    used(world)
    data = bytearray(world.ledger.read_bytes())
    for at in range(4096, len(data), 512):
        data[at : at + 64] = bytes(64)
    world.ledger.write_bytes(data)
    refused(world, (75,), "is damaged", "move it", str(world.ledger))
    assert world.ledger.read_bytes() == bytes(data), "it was left as it is"


def damaged_at_its_head(world):
    used(world)
    data = bytearray(world.ledger.read_bytes())
    data[0:100] = os.urandom(100)
    world.ledger.write_bytes(data)
    refused(world, (75,), "is damaged", "move it")
    assert world.ledger.read_bytes() == bytes(data)


def cut_short(world):
    """Truncated in the middle of a page."""
    used(world)
    data = world.ledger.read_bytes()[:6000]
    world.ledger.write_bytes(data)
    refused(world, (75,), "is damaged")
    assert world.ledger.read_bytes() == data


def a_folder_in_its_place(world):
    used(world)
    world.ledger.unlink()
    world.ledger.mkdir()
    refused(world, (73,), str(world.ledger))


def another_programs(world):
    used(world)
    world.ledger.unlink()
    with sqlite3.connect(world.ledger) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    refused(world, (78,), "another program", "state_dir")


def of_a_newer_version(world):
    used(world)
    with sqlite3.connect(world.ledger) as file:
        file.execute("PRAGMA user_version = 4711")
    file.close()
    refused(world, (78,), "4711", "newer")


def read_only(world):
    """The ledger cannot be written (`chattr +i`): reported at the start, before anything is sent."""
    need("chattr")
    used(world)
    if subprocess.run(["chattr", "+i", str(world.ledger)], capture_output=True).returncode != 0:
        from world import Skipped
        raise Skipped("this file system knows no immutable files")
    try:
        refused(world, (73, 75), str(world.ledger))
    finally:
        subprocess.run(["chattr", "-i", str(world.ledger)], check=True)
    world.start()
    world.done(2)


def on_a_read_only_disk(world):
    """The whole state folder is read-only."""
    used(world)
    world.bind(world.state, read_only=True)
    refused(world, (73, 75), str(world.state), "Read-only")
    world.remount(world.state, "rw")
    world.start()
    world.done(2)


def emptied(world):
    """Zero bytes are an empty ledger: the scene counts as new, and nothing is sent without a
    request."""
    used(world)
    for path in world.state.glob("ledger.sqlite*"):
        path.unlink()
    world.ledger.touch()
    world.start()
    world.stays(1.0, "nothing is sent for an unchanged scene", lambda: world.submits() == 1)
    world.say("a clay fox")
    world.done(submits=2)


def without_its_log(world):
    """The `-wal` file of a killed daemon is gone: its content is lost, or the ledger is damaged and
    that is said; nothing is sent without a request."""
    world.prepare(run_s=0.3).start()
    world.say("a clay owl")
    world.done()
    world.daemon.kill()
    world.ended()
    for path in world.state.glob("ledger.sqlite-*"):
        path.unlink()
    # A reader at the wrong moment keeps the log from being emptied whole. Without it the rest is
    # damaged, which the start says; it sends nothing then either.
    world.start(ready=False)
    def started():
        return world.daemon.poll() is not None or (world.status() or {}).get("projects")
    world.wait("it starts, or says why not", started)
    if world.daemon.poll() is not None:
        assert world.daemon.returncode == 75, world.daemon.returncode
        assert "is damaged" in world.stderr.read_text(errors="replace")
        assert world.submits() == 1
        return
    world.stays(1.0, "nothing is sent for an unchanged scene", lambda: world.submits() == 1)
    world.alive()


def held_for_ten_seconds(world):
    """Another process locks it at the release: nothing is sent meanwhile, the message says what to
    do, then the job runs."""
    world.prepare().start()
    other = sqlite3.connect(world.ledger, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    try:
        world.say("a clay owl")
        world.says("locked by another process")
        world.stays(4, "nothing is sent", lambda: world.submits() == 0)
        world.alive()
    finally:
        other.execute("ROLLBACK")
        other.close()
    world.done()


def held_while_a_job_is_paid(world):
    """Another process locks it when the answer arrives: the id is written when that is possible,
    and the job is done once."""
    world.prepare().start()
    world.order({"fault": {"hang": {"ms": 1000}}})
    world.say("a clay owl")
    world.wait("the submit arrives", lambda: world.submits() == 1)
    other = sqlite3.connect(world.ledger, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    try:
        world.says("the request's id", "locked by another process")
        world.alive()
    finally:
        other.execute("ROLLBACK")
        other.close()
    world.done()


def held_for_ever(world):
    """Locked at the start and never released: the daemon ends with 75 and says what holds the lock."""
    used(world)
    other = sqlite3.connect(world.ledger, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    try:
        refused(world, (75,), "locked by another process")
    finally:
        other.execute("ROLLBACK")
        other.close()


def stopping_while_it_is_held(world):
    """A stop does not wait for a locked ledger longer than its five seconds."""
    world.prepare(run_s=60).start()
    world.say("a clay owl")
    world.newest_is("running")
    other = sqlite3.connect(world.ledger, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    try:
        began = time.monotonic()
        world.daemon.send_signal(signal.SIGTERM)
        assert world.ended(15) == 0
        assert time.monotonic() - began < 6.5, f"it took {time.monotonic() - began:.1f} s"
    finally:
        other.execute("ROLLBACK")
        other.close()


def deleted_while_running(world):
    """Its file is deleted under the running daemon: nothing more is sent, and `status` says what to do."""
    world.prepare().start()
    world.say("a clay owl")
    world.done()
    for path in world.state.glob("ledger.sqlite*"):
        path.unlink()
    world.say("a clay fox")
    world.says("nothing was sent", str(world.ledger), "restart")
    world.stays(1.5, "nothing is sent without a ledger", lambda: world.submits() == 1)
    world.alive()
    assert world.stop() == 0
    world.start()
    world.say("a clay elk")
    world.done(submits=2)


def moved_away_during_a_job(world):
    """Moved away during a paid job: the job is finished, the next one is not sent; moved back,
    everything continues."""
    world.prepare(run_s=1).start()
    world.say("a clay owl")
    world.newest_is("running")
    away = world.folder / "away"
    world.ledger.rename(away)
    world.wait("its files are public", lambda: all(path.exists() for path in world.public))
    world.say("a clay fox")
    world.says("nothing was sent", "restart")
    assert world.submits() == 1
    away.rename(world.ledger)
    world.done(2)


def log_deleted_while_running(world):
    """Only its `-wal` file is deleted: the same, because later writes would be lost."""
    world.prepare().start()
    world.say("a clay owl")
    world.done()
    (world.state / "ledger.sqlite-wal").unlink()
    world.say("a clay fox")
    world.says("nothing was sent", "restart")
    world.stays(1.0, "nothing is sent", lambda: world.submits() == 1)


def damaged_while_running(world):
    """Overwritten under the running daemon: it keeps running and reports it; nothing panics,
    nothing is paid twice."""
    world.prepare().start()
    world.say("a clay owl")
    world.done()
    with open(world.ledger, "r+b") as file:
        file.write(os.urandom(os.path.getsize(world.ledger)))
    with open(world.state / "ledger.sqlite-wal", "r+b") as file:
        file.write(os.urandom(32))
    with open(world.state / "ledger.sqlite-shm", "r+b") as file:
        file.write(os.urandom(32768))
    world.say("a clay fox")
    world.says("damaged")
    world.stays(1.0, "nothing is sent", lambda: world.submits() <= 2)
    world.alive()


CASES = [
    damaged_in_the_middle, damaged_at_its_head, cut_short, a_folder_in_its_place, another_programs, of_a_newer_version, read_only,
    on_a_read_only_disk, emptied, without_its_log, held_for_ten_seconds, held_while_a_job_is_paid, held_for_ever,
    stopping_while_it_is_held, deleted_while_running, moved_away_during_a_job, log_deleted_while_running, damaged_while_running,
]
