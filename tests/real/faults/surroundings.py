"""Strange surroundings: environment, masks, closed handles, missing folders, unusual paths and
prompts."""

import json
import os
import pathlib
import resource
import stat
import subprocess

import world as worlds
from world import need
from places import plain_root


def served(world, words="a clay owl", **options):
    """Starts the daemon, writes a prompt and waits for its only job."""
    world.start(**options)
    world.say(words)
    world.done()
    world.alive()


def no_home(world):
    """`HOME` unset: with a configuration, a state folder and a token, nothing else is needed."""
    world.prepare()
    del world.env["HOME"]
    served(world)


def no_home_and_nothing_named(world):
    """`HOME` unset and no state folder given: it uses the user database's home, or says what to
    set; it never panics."""
    world.prepare()
    env = {key: value for key, value in world.env.items() if key != "HOME"}
    env["XDG_STATE_HOME"] = "relative/is/not/allowed"
    world.start(ready=False, env=env, line=[worlds.BINARY, "--root", world.folder / "nothing", "status"])
    assert world.ended() in (69, 78), world.log()
    assert "panicked" not in world.log()


def home_not_writable(world):
    """A home that cannot be written: the first start names the folder and the key."""
    world.prepare()
    world.home.chmod(0o555)
    world.start(ready=False, wrap=plain_root(), line=plain_root(worlds.BINARY, "--config", world.folder / "config.toml", "run"))
    assert world.ended() == 73, world.log()
    assert str(world.home) in world.log() and "state_dir" in world.log(), world.log()


def no_temporary_folder(world):
    """`TMPDIR` does not exist: the daemon does not need it."""
    world.prepare()
    world.env["TMPDIR"] = str(world.folder / "no such folder")
    served(world)


def working_folder_deleted(world):
    """The folder in which it was started is gone."""
    world.prepare()
    gone = world.folder / "gone"
    gone.mkdir()
    served(world, cwd=gone, preexec_fn=lambda: os.rmdir(gone))


def every_handle_closed(world):
    """Started without standard input, output and error: none of the daemon's files may get their
    numbers and be written into."""
    world.prepare()
    served(world, stdout=None, stderr=None, stdin=None, preexec_fn=lambda: [os.close(handle) for handle in (0, 1, 2)])
    for path in [world.ledger, *world.public]:
        assert b" INFO " not in path.read_bytes(), f"the log was written into {path}"
    assert world.ledger.read_bytes()[:6] == b"SQLite"


def broken_pipe(world):
    """The reader of its standard error is gone."""
    world.prepare()
    reading, writing = os.pipe()
    os.close(reading)
    try:
        served(world, stderr=writing, stdout=writing)
    finally:
        os.close(writing)


def mask(bits, name):
    """Private files are private whatever the mask says; public files are readable for everyone if
    the mask allows it."""
    def case(world):
        world.prepare()
        served(world, preexec_fn=lambda: os.umask(bits))
        loose = [path for path in world.state.rglob("*") if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077]
        assert not loose, f"not private: {loose}"
        for path in world.public:
            assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~bits, f"{path}: {path.stat().st_mode:o}"
    case.__name__ = name
    return case


def no_core_file_size_or_memory_to_lock(world):
    """Small limits, as a container gives them."""
    world.prepare()
    def limits():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    served(world, preexec_fn=limits)


def file_size_limit(world):
    """A limit on file sizes (`ulimit -f`) is an error and not death by SIGXFSZ: the job waits and
    gives the reason."""
    need("prlimit")
    world.prepare(run_s=1).start()
    world.say("a clay owl")
    world.newest_is("submitted", "running")
    subprocess.run(["prlimit", "--pid", str(world.pid()), f"--fsize={300 << 10}:{1 << 40}"], check=True)
    world.says("File too large")
    world.alive()
    subprocess.run(["prlimit", "--pid", str(world.pid()), f"--fsize={1 << 40}:{1 << 40}"], check=True)
    world.done()


def root_named(name, title):
    """A project whose path has unusual bytes: with `--root`, as typed on a command line."""
    def case(world):
        base = os.fsencode(world.folder) + b"/" + name
        world.root = pathlib.Path(os.fsdecode(base))
        world.prepare()
        text = (world.folder / "config.toml").read_text()
        a, b = text.index("[[project]]"), text.index("[trigger]")
        world.save(text[:a] + text[b:])
        world.start(line=[worlds.BINARY, "--config", world.folder / "config.toml", "--state-dir", world.state, "--root", base, "run"],
                    ready=False)
        world.wait("it serves", lambda: '"unseen"' not in (said := world.said()) and '"projects": [{' in said)
        world.say("a clay owl")
        world.done()
        world.alive()
    case.__name__ = title
    return case


def state_folder_named(name, title):
    """The same for the state folder, whose path also names a database and a socket."""
    def case(world):
        world.state = pathlib.Path(os.fsdecode(os.fsencode(world.folder) + b"/" + name))
        world.prepare()
        served(world)
    case.__name__ = title
    return case


def state_folder_too_long(world):
    """Longer than SQLite accepts: reported as a configuration error."""
    world.state = world.folder / os.fsdecode(LONG[:1200])
    world.prepare().start(ready=False)
    assert world.ended() == 78 and "shorter path" in world.log(), world.log()


def words(said, sent, title):
    """A prompt as some program may write it; `sent` is what reaches the service, None if nothing
    may."""
    def case(world):
        world.prepare().start()
        world.say(said)
        if sent is None:
            world.stays(1.5, "nothing is sent", lambda: world.submits() == 0)
            world.wait("a reason is told", lambda: world.status()["projects"][0]["waiting"].startswith("no job"))
            world.say("a clay owl")
            world.done()
        else:
            world.done()
            got = world.stats()["requests"][0]["prompt"]
            assert got == sent, (got[:80], len(got))
        world.alive()
    case.__name__ = title
    return case


def a_huge_prompt(world):
    """A prompt of 200 KB: sent completely or refused with a reason, and never cut silently."""
    world.prepare().start()
    text = "a clay owl with many feathers " * 7000
    world.say(text)
    def decided():
        status = world.status()["projects"][0]
        return world.submits() == 1 or status["prompt"]["state"] == "refused"
    world.wait("it is decided", decided)
    if world.submits() == 1:
        world.done()
        assert world.stats()["requests"][0]["prompt"] == text.strip()
    else:
        world.stays(1, "nothing is sent", lambda: world.submits() == 0)
        assert world.status()["projects"][0]["prompt"]["detail"]
    world.alive()


LONG = b"/".join([b"x" * 200] * 12)
CASES = [
    no_home, no_home_and_nothing_named, home_not_writable, no_temporary_folder, working_folder_deleted, every_handle_closed,
    broken_pipe, mask(0, "mask_of_nothing"), mask(0o777, "mask_of_everything"), no_core_file_size_or_memory_to_lock, file_size_limit,
    root_named(b"My CONJURE \xc3\xa9 \xf0\x9f\xa6\x89", "root_with_spaces_and_an_emoji"),
    root_named(b"two\nlines \"quoted\" 'and' $HOME `x` \\", "root_with_a_newline_and_quotes"),
    root_named(b"not-utf8-\xff\xfe\xe9", "root_that_is_no_utf8"),
    root_named(LONG, "root_of_2400_bytes"),
    state_folder_named(b"a state?#%20 folder \xc3\xa9", "state_folder_with_signs_of_an_uri"),
    state_folder_named(b"no-utf8-\xff\xe9", "state_folder_that_is_no_utf8"),
    state_folder_named(LONG[:250], "state_folder_of_300_bytes"), state_folder_too_long,
    words(b"\xef\xbb\xbfa clay owl\r\n", "a clay owl", "prompt_with_a_bom_and_crlf"),
    words("eine Eule aus T\u00f6n".encode("cp1252"), "eine Eule aus T\u00f6n", "prompt_in_windows_1252"),
    words("an owl \U0001f989\U0001f468\u200d\U0001f469".encode(), "an owl \U0001f989\U0001f468\u200d\U0001f469", "prompt_with_emoji"),
    words(b" \r\n\t \xc2\xa0\n", None, "prompt_of_white_space"),
    words(b"null", None, "prompt_that_says_null"),
    a_huge_prompt,
]
