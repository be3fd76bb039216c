"""No disk space, at each writer of the daemon: nothing is sent that cannot be recorded, and no paid
result is lost."""

HANG = {"fault": {"hang": {"ms": 1500}}}


def ledger_full_at_release(world):
    """The job's row cannot be written: nothing is sent, `status` gives the reason, and with free
    space the job runs automatically."""
    world.mount(world.state)
    world.mount(world.history, "16m")
    world.prepare().start()
    world.fill(world.state)
    world.say("a clay owl")
    world.says("nothing was sent", "disk is full", str(world.ledger))
    world.stays(1.0, "nothing is sent", lambda: world.submits() == 0)
    world.alive()
    world.free(world.state)
    world.done()
    world.alive()


def ledger_full_at_submitted(world):
    """The id of a paid request cannot be written: the write is retried, and `status` shows what is
    pending."""
    world.mount(world.state)
    world.mount(world.history, "16m")
    world.prepare().start()
    world.order(HANG)
    world.say("a clay owl")
    world.wait("the submit arrives", lambda: world.submits() == 1)
    world.fill(world.state)
    world.says("disk is full", str(world.ledger), "the request's id")
    world.stays(1.0, "it is not sent again", lambda: world.submits() == 1)
    world.alive()
    world.free(world.state)
    world.done()
    assert "disk is full" not in world.said(), "the trouble is over, and told no more"


def ledger_full_at_the_end(world):
    """The end of a job cannot be written: its files are public, and the job ends when there is
    space."""
    world.mount(world.models, "16m")
    world.fill(world.models)
    world.prepare().start()
    world.say("a clay owl")
    world.newest_is("placing")
    # The log of a used ledger has pages that can be overwritten, so here the system call reports
    # that there is no space.
    with world.broken("pwrite64", "error=ENOSPC", world.state / "ledger.sqlite-wal"):
        world.free(world.models)
        world.says("disk is full", str(world.ledger))
        world.wait("its files are public", lambda: all(path.exists() for path in world.public))
        world.alive()
    world.done()


def ledger_full_then_killed(world):
    """Killed while the id cannot be written: the answer counts as lost, nothing is sent twice, the id is in the log."""
    world.mount(world.state)
    world.mount(world.history, "16m")
    world.prepare().start()
    world.order(HANG)
    world.say("a clay owl")
    world.wait("the submit arrives", lambda: world.submits() == 1)
    world.fill(world.state)
    world.says("disk is full")
    request = world.stats()["requests"][0]["id"]
    assert request in world.log(), "the log has the id"
    world.daemon.kill()
    world.ended()
    world.free(world.state)
    world.start()
    world.newest_is("unknown")
    world.stays(1.5, "it is not sent again", lambda: world.submits() == 1)


def history_full_at_inputs(world):
    """The inputs cannot be saved: nothing is sent, `status` names the folder, and with free space
    the job runs automatically."""
    world.mount(world.history, "16m")
    world.prepare().start()
    world.fill(world.history)
    world.say("a clay owl")
    world.says("nothing was sent", "No space left", str(world.history))
    world.stays(1.0, "nothing is sent", lambda: world.submits() == 0)
    world.free(world.history)
    world.done()
    world.alive()


def history_full_at_download(world):
    """There is no room for a paid result: the job waits and gives the reason, and continues
    automatically. Nothing is sent again."""
    world.mount(world.history, "16m")
    world.prepare(run_s=1.5).start()
    world.say("a clay owl")
    world.newest_is("submitted", "running")
    world.fill(world.history)
    world.says("No space left", str(world.history))
    world.stays(1.5, "the job is not given up", lambda: world.jobs()[0]["state"] not in ("failed", "unknown"))
    world.alive()
    assert not world.public[1].exists(), "nothing half is public"
    world.free(world.history)
    world.done()


def history_full_and_killed_at_download(world):
    """The same with a kill -9 and a restart in between, still without space: the result is fetched
    in the end."""
    world.mount(world.history, "16m")
    world.prepare(run_s=1.5).start()
    world.say("a clay owl")
    world.newest_is("submitted", "running")
    world.fill(world.history)
    world.says("No space left")
    world.daemon.kill()
    world.ended()
    world.start()
    world.says("No space left")
    world.free(world.history)
    world.done()


def target_full_at_placement(world):
    """The public folder is full: the old files stay complete; the job waits as `placing` and says
    where; then everything is placed."""
    world.mount(world.models, "16m")
    world.prepare().start()
    world.say("a clay owl")
    world.done()
    before = [path.read_bytes() for path in world.public]
    world.fill(world.models)
    world.say("a clay fox")
    world.newest_is("placing")
    world.says("No space left", str(world.models), "safe in history")
    assert [path.read_bytes() for path in world.public[1:]] == before[1:], "the old mesh stays whole"
    assert not list(world.models.glob(".conjured-*")), "no half file stays on the full disk"
    world.alive()
    world.free(world.models)
    world.done(2)
    assert all(path.read_bytes() != old for path, old in zip(world.public, before)), "and then the new ones"


def record_full_at_the_end(world):
    """`job.json` cannot be written: the job is done anyway."""
    world.mount(world.history, "16m")
    world.mount(world.models, "16m")
    world.fill(world.models)
    world.prepare().start()
    world.say("a clay owl")
    world.newest_is("placing")
    world.fill(world.history)
    world.free(world.models)
    world.done()
    world.wait("the log tells of it", lambda: "job.json could not be written" in world.log())
    world.alive()


def log_full(world):
    """The log's disk is full from the start: the daemon starts, reports it, and the job is done."""
    logs = world.mount(world.folder / "logs", "64k")
    world.settings["log"] = {"level": "trace", "dir": str(logs)}
    world.prepare()
    world.fill(logs)
    world.start()
    world.say("a clay owl")
    world.done()
    world.alive()


def log_fills_up_on_the_way(world):
    """Log lines without room are lost, and nothing else."""
    logs = world.mount(world.folder / "logs", "64k")
    world.settings["log"] = {"level": "trace", "dir": str(logs)}
    world.prepare().start()
    world.fill(logs)
    world.say("a clay owl")
    world.done()
    world.say("a clay fox")
    world.done(2)
    world.alive()


def standard_error_full(world):
    """Standard error cannot be written (`/dev/full`): the job is done anyway, and the log files are
    complete."""
    logs = world.folder / "logs"
    world.settings["log"] = {"level": "trace", "dir": str(logs)}
    world.prepare()
    with open("/dev/full", "wb") as full:
        world.start(stderr=full)
    world.say("a clay owl")
    world.done()
    story = "".join(path.read_text() for path in logs.iterdir())
    assert "panicked" not in story and "done: image and mesh are placed" in story
    world.alive()


def state_full_at_start(world):
    """No room for a new ledger: the daemon ends with a message and its own exit code, and starts
    when there is room."""
    world.mount(world.state, "2m")
    world.fill(world.state)
    world.prepare().start(ready=False)
    code = world.ended()
    assert code in (73, 75), code
    assert str(world.state) in world.log() and ("full" in world.log() or "No space left" in world.log()), world.log()
    world.free(world.state)
    world.mount(world.history, "16m")
    world.start()
    world.say("a clay owl")
    world.done()


def state_full_at_a_later_start(world):
    """With a paid job in progress and no room: a daemon that ends is restarted by its service, and
    the job is done once."""
    world.mount(world.state)
    world.mount(world.history, "16m")
    world.prepare(run_s=1).start()
    world.say("a clay owl")
    world.newest_is("submitted", "running")
    world.daemon.kill()
    world.ended()
    world.fill(world.state)
    world.start(ready=False)
    code = world.ended()
    assert code in (73, 75) and "full" in world.log() + "No space left", (code, world.log())
    assert "panicked" not in world.log()
    world.free(world.state)
    world.start()
    world.done()


CASES = [
    ledger_full_at_release, ledger_full_at_submitted, ledger_full_at_the_end, ledger_full_then_killed, history_full_at_inputs,
    history_full_at_download, history_full_and_killed_at_download, target_full_at_placement, record_full_at_the_end, log_full,
    log_fills_up_on_the_way, standard_error_full, state_full_at_start, state_full_at_a_later_start,
]
