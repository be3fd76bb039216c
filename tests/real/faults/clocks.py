"""The wall clock jumps, starts in 1970, passes midnight and a change to summer time: jobs are done
once, and waits keep their length."""

import pathlib
import time

from world import Skipped

DAY, HOUR = 86400, 3600


def library():
    found = sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")) + sorted(
        pathlib.Path("/usr/lib").glob("faketime/libfaketimeMT.so.1"))
    if not found:
        raise Skipped("there is no libfaketime (apt-get install libfaketime)")
    return str(found[0])


def faked(world, moment, zone="UTC"):
    """Gives the daemon a wall clock that can be set while it runs; its other clocks stay correct.
    `moment` is `+0` or a date."""
    world.env |= {"LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": str(world.folder / "clock"), "FAKETIME_NO_CACHE": "1",
                  "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1", "TZ": zone}
    set_clock(world, moment)


def set_clock(world, moment):
    new = world.folder / "clock.new"
    new.write_text(f"{moment}\n")
    new.rename(world.folder / "clock")


def jumps(world):
    """An hour and a day, forward and back, while a job runs: it is done, once, and nothing is cancelled or begun again."""
    faked(world, "+0")
    world.prepare(run_s=2.5).start()
    for count, steps in enumerate([(HOUR, 0), (-HOUR, 0), (DAY, 0), (-DAY, 0), (HOUR, -HOUR)], 1):
        world.say(f"a clay owl, number {count}")
        world.newest_is("submitted", "running")
        for step in steps:
            set_clock(world, f"{step:+d}")
            time.sleep(0.4)
        world.done(count)
    assert world.stats()["cancel_calls"] == 0
    booked = [job["booked_microusd"] for job in world.jobs()]
    assert all(cost < 1_000_000 for cost in booked), f"an hour that never was is not paid for: {booked}"
    world.alive()


def a_day_back_between_jobs(world):
    """Set back a day permanently: the newest job is still shown as the newest, and a restart starts
    nothing again."""
    faked(world, "+0")
    world.prepare().start()
    world.say("a clay owl")
    world.done()
    set_clock(world, f"{-DAY:+d}")
    world.say("a clay fox")
    world.done(2)
    jobs = world.jobs()
    assert abs(jobs[0]["created_at"] - jobs[1]["created_at"]) > (DAY - HOUR) * 1000, "the clock was set back"
    assert world.stop() == 0
    world.start()
    world.stays(1.5, "an unchanged scene costs nothing", lambda: world.submits() == 2)
    world.say("a clay elk")
    world.done(3)


def a_clock_that_stands_at_1970(world):
    """A machine without a real-time clock: jobs are done, even if the correct time arrives in the
    middle of one."""
    faked(world, "@1970-01-01 00:00:05")
    world.prepare(run_s=2.5).start()
    world.say("a clay owl")
    # Seen active before the jump: what is first seen afterwards has not waited yet.
    world.newest_is("running")
    set_clock(world, "+0")
    world.done()
    world.say("a clay fox")
    world.done(2)
    assert world.stats()["cancel_calls"] == 0
    world.alive()


def ahead_by_fifty_years(world):
    """The opposite: started in 2076, corrected later."""
    faked(world, f"{50 * 365 * DAY:+d}")
    world.prepare(run_s=1.5).start()
    world.say("a clay owl")
    world.newest_is("submitted", "running")
    set_clock(world, "+0")
    world.done()
    world.say("a clay fox")
    world.done(2)


def midnight(world):
    """Midnight passes during a job, and with it the budget's day and the day of the log file."""
    faked(world, "@2026-03-28 23:59:58", "Europe/Berlin")
    world.settings["budget"]["per_day_usd"] = 5
    world.settings["log"] = {"level": "debug", "dir": str(world.folder / "logs")}
    world.prepare(run_s=3).start()
    world.say("a clay owl")
    world.done()
    world.say("a clay fox")
    world.done(2)
    world.alive()


def summer_time(world):
    """The hour that is missing in March and the one that comes twice in October."""
    faked(world, "@2026-03-29 01:59:58", "Europe/Berlin")
    world.settings["budget"]["per_day_usd"] = 5
    world.prepare(run_s=2.5).start()
    world.say("a clay owl")
    world.done()
    set_clock(world, "@2026-10-25 02:59:58")
    world.say("a clay fox")
    world.done(2)
    assert world.stats()["cancel_calls"] == 0
    world.alive()


CASES = [jumps, a_day_back_between_jobs, a_clock_that_stands_at_1970, ahead_by_fifty_years, midnight, summer_time]
