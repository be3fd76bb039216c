"""Signals: stop once and twice, a storm of reloads, a machine that sleeps, a second daemon."""

import signal
import subprocess
import time

import world as worlds


def ends(first, then=None):
    def case(world):
        """One signal ends it with 0 within five seconds and does not affect the paid job; a second
        one ends it at once."""
        world.prepare(run_s=2).start()
        world.say("a clay owl")
        world.newest_is("running")
        began = time.monotonic()
        world.daemon.send_signal(first)
        if then:
            world.daemon.send_signal(then)
        code = world.ended()
        assert time.monotonic() - began < 5
        assert code in ((0,) if then is None else (0, 1)), code
        assert world.stats()["cancel_calls"] == 0
        world.start()
        world.done()
    case.__name__ = f"{first.name}_{'once' if then is None else 'and_then_' + then.name}"
    return case


def second_signal_when_stuck(world):
    """A stop that waits (for a submit without an answer) is ended at once by the second signal;
    nothing is sent twice."""
    world.prepare().start()
    world.order({"fault": {"hang": {}}})
    world.say("a clay owl")
    world.wait("the submit arrives", lambda: world.submits() == 1)
    world.daemon.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert world.daemon.poll() is None, "it waits for the answer"
    began = time.monotonic()
    world.daemon.send_signal(signal.SIGTERM)
    assert world.ended() == 1 and time.monotonic() - began < 0.5
    world.start()
    world.newest_is("unknown")
    world.stays(1, "it is not sent again", lambda: world.submits() == 1)


def storm_of_hang_ups(world):
    """Five hundred reloads while jobs run: each job is paid once, and the daemon answers."""
    world.prepare(run_s=1).start()
    world.say("a clay owl")
    for _ in range(500):
        world.daemon.send_signal(signal.SIGHUP)
        time.sleep(0.002)
    world.done()
    world.say("a clay fox")
    world.done(2)
    world.alive()


def asleep_longer_than_patience(world):
    """The machine sleeps longer than a run may take: the result is checked once more, and it is
    there. Nothing is cancelled."""
    world.settings["serverless"] |= {"run_timeout_s": 3, "queue_timeout_s": 3}
    world.prepare(run_s=1.5).start()
    world.say("a clay owl")
    world.newest_is("submitted", "running")
    world.daemon.send_signal(signal.SIGSTOP)
    time.sleep(6)
    world.daemon.send_signal(signal.SIGCONT)
    world.done()
    assert world.stats()["cancel_calls"] == 0


def overflow_of_the_watch_queue(world):
    """More events than the system can queue while the daemon hangs: the last change is still one
    job."""
    limit = int(open("/proc/sys/fs/inotify/max_queued_events").read())
    if limit > 200_000:
        raise worlds.Skipped(f"the queue takes {limit} events")
    world.prepare().start()
    world.daemon.send_signal(signal.SIGSTOP)
    names = [world.prompt.with_name(f"other-{number % 2}") for number in range(2)]
    for number in range(limit // 2 + 2000):
        open(names[number % 2], "wb").close()
    world.say("a clay owl")
    world.daemon.send_signal(signal.SIGCONT)
    world.done()
    assert world.stats()["requests"][0]["prompt"] == "a clay owl"
    world.say("a clay fox")
    world.done(2)


def second_daemon(world):
    """On the same state folder, and on the same project under another name: 75, and the holder's
    name. Each lock refuses on its own."""
    world.prepare().start()
    alias, another = world.folder / "alias", world.folder / "another"
    alias.symlink_to(world.root)
    another.mkdir()
    lines = [
        ["--config", world.folder / "config.toml", "--state-dir", world.state],
        ["--config", world.folder / "only-service.toml", "--root", another, "--state-dir", world.state],
        ["--config", world.folder / "config.toml", "--state-dir", world.folder / "other"],
        ["--config", world.folder / "only-service.toml", "--root", alias, "--state-dir", world.folder / "third"],
    ]
    text = (world.folder / "config.toml").read_text()
    (world.folder / "only-service.toml").write_text(text[: text.index("[[project]]")] + text[text.index("[trigger]"):])
    for line in lines:
        process = world.spawn([worlds.BINARY, *line, "run"], env=world.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=world.folder)
        said = process.communicate(timeout=20)[0].decode()
        assert process.returncode == 75 and f"process {world.pid()}" in said, (line, process.returncode, said)
    world.say("a clay owl")
    world.done()


def lock_of_a_killed_daemon(world):
    """A lock file of a killed daemon is not a lock."""
    world.prepare().start()
    assert (world.root / ".conjured.lock").exists()
    world.daemon.kill()
    world.ended()
    assert (world.root / ".conjured.lock").exists()
    world.start()
    world.say("a clay owl")
    world.done()
    assert world.stop() == 0
    assert not (world.root / ".conjured.lock").exists(), "a good end takes it away"


CASES = [
    ends(signal.SIGTERM), ends(signal.SIGINT), ends(signal.SIGTERM, signal.SIGTERM), ends(signal.SIGINT, signal.SIGTERM),
    second_signal_when_stuck, storm_of_hang_ups, asleep_longer_than_patience, overflow_of_the_watch_queue, second_daemon,
    lock_of_a_killed_daemon,
]
