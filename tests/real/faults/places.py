"""The public and the watched folders: read-only, missing, replaced by other things, on other disks,
gone and back again."""

import os
import shutil
import stat
import subprocess

from world import fault_of, need, png


def plain_root(*line):
    """A command line that runs as root without root's power over permissions."""
    need("setpriv")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *line]


def read_only_folder(world):
    """A read-only file system: the job waits and gives the remedy, the old files stay; writable
    again, everything is placed."""
    world.models.mkdir(parents=True)
    world.mount(world.models, "16m")
    world.remount(world.models, "ro")
    world.prepare().start()
    world.say("a clay owl")
    world.newest_is("placing")
    world.says("Read-only", "make that file system writable", "safe in history")
    world.alive()
    world.remount(world.models, "rw")
    world.done()


def forbidden_folder(world):
    """A folder in which our user may not write."""
    world.models.mkdir(parents=True)
    world.models.chmod(0o555)
    world.prepare().start(wrap=plain_root())
    world.say("a clay owl")
    world.newest_is("placing")
    world.says("Permission denied", "allow conjured's user to write in that folder")
    world.models.chmod(0o755)
    world.done()


def immutable_file(world):
    """The public file itself may not be replaced (`chattr +i`)."""
    need("chattr")
    world.prepare().start()
    world.say("a clay owl")
    world.done()
    old = world.public[1].read_bytes()
    if subprocess.run(["chattr", "+i", str(world.public[1])], capture_output=True).returncode != 0:
        from world import Skipped
        raise Skipped("this file system knows no immutable files")
    try:
        world.say("a clay fox")
        world.newest_is("placing")
        world.says("not permitted", "safe in history")
        assert world.public[1].read_bytes() == old
    finally:
        subprocess.run(["chattr", "-i", str(world.public[1])], check=True)
    world.done(2)


def file_in_its_place(world):
    """A file exists where the folder should be."""
    world.models.parent.mkdir(parents=True)
    world.models.write_text("no folder")
    world.prepare().start()
    world.say("a clay owl")
    world.newest_is("placing")
    world.says("a file stands where a folder should be", "move it away")
    world.models.unlink()
    world.done()


def folder_in_its_place(world):
    """A folder has the public file's name."""
    world.public[1].mkdir(parents=True)
    world.prepare().start()
    world.say("a clay owl")
    world.newest_is("placing")
    world.says("a folder has that name")
    world.public[1].rmdir()
    world.done()


def other_file_system(world):
    """History, image and mesh on three file systems: no rename ever crosses one (EXDEV)."""
    world.mount(world.history, "16m")
    world.models.mkdir(parents=True)
    world.mount(world.models, "16m")
    world.mount(world.public[0].parent, "16m")
    devices = {path.stat().st_dev for path in (world.history, world.models, world.public[0].parent, world.root)}
    assert len(devices) == 4, devices
    world.prepare().start()
    world.say("a clay owl")
    world.done()
    assert "cross-device" not in world.log()


def symlinks_to_outside(world):
    """Folder and file are symlinks to other places, one of them dangling: both are followed and
    stay symlinks."""
    outside = world.folder / "outside"
    outside.mkdir()
    world.models.parent.mkdir(parents=True)
    world.models.symlink_to(outside)
    (outside / "result.glb").symlink_to(world.folder / "nothing-yet.glb")
    world.prepare().start()
    world.say("a clay owl")
    world.done()
    assert world.models.is_symlink() and (outside / "result.glb").is_symlink()
    assert (world.folder / "nothing-yet.glb").is_file()


def permissions_and_owner_are_kept(world):
    """A result has the permissions and the owner of the file that it replaces."""
    world.prepare().start()
    world.say("a clay owl")
    world.done()
    world.public[1].chmod(0o640)
    os.chown(world.public[1], 1234, 2345)
    world.say("a clay fox")
    world.done(2)
    about = world.public[1].stat()
    assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (0o640, 1234, 2345), about


def unmounted_while_placing(world):
    """The drive is unmounted while its folder is full, and comes back empty: the placement is
    completed there."""
    world.models.mkdir(parents=True)
    world.mount(world.models, "16m")
    world.fill(world.models)
    world.prepare().start()
    world.say("a clay owl")
    world.newest_is("placing")
    world.unmount(world.models)
    world.models.rmdir()
    # The parent is held as well, so that a new folder cannot simply be created.
    subprocess.run(["mount", "--bind", "-r", str(world.models.parent), str(world.models.parent)], check=True)
    world.mounts.append(world.models.parent)
    world.says("Read-only")
    world.alive()
    world.unmount(world.models.parent)
    world.done()


def every_error_while_placing(world):
    """Every error of a drive for a write or a sync: nothing incomplete appears, the job waits, and
    is placed when the error is over.

        (For a rename: `immutable_file`.)
    """
    world.prepare().start()
    for count, (calls, error, touching) in enumerate([
        # The kernel copies from file to file, and only this part of the daemon uses these calls.
        ("copy_file_range,sendfile", "EIO", None),
        ("copy_file_range,sendfile", "EDQUOT", None),
        ("fsync", "EIO", [world.models]),
    ], 1):
        with world.broken(calls, f"error={error}", touching):
            world.say(f"a clay owl, number {count}")
            world.says("safe in history")
            half = [fault for fault in (fault_of(path) for path in world.public if path.exists()) if fault]
            assert not half, f"a public name shows an old file or a new one, whole, or none: {half}"
            world.alive()
        world.done(count)


def watched_folder_goes_and_comes(world):
    """The watched folders are deleted and created again, and renamed away and back: the next change
    is a job."""
    world.prepare().start()
    shutil.rmtree(world.prompt.parent)
    world.says('"missing"')
    world.prompt.parent.mkdir()
    world.say("a clay owl")
    world.done()
    folder, away = world.render.parent, world.render.parent.with_name("away")
    folder.rename(away)
    world.wait("the render is missed", lambda: world.status()["projects"][0]["render"]["state"] == "missing")
    (away / "render.png").write_bytes(png(7))
    away.rename(folder)
    world.done(2)
    world.film(8)
    world.done(3)


def root_goes_and_comes(world):
    """The project's root is renamed away and back, then deleted and created again: noticed by an
    event or by the periodic scan."""
    world.prepare().start()
    away = world.root.with_name("elsewhere")
    world.root.rename(away)
    world.wait("it is missed", lambda: world.status()["projects"][0]["prompt"]["state"] == "missing", 75)
    world.alive()
    away.rename(world.root)
    world.say("a clay owl")
    world.wait("it is seen again", lambda: world.submits() == 1, 75)
    world.done()
    world.say("a clay fox")
    world.done(2)


def permission_goes_and_comes(world):
    """The watched folder becomes unreadable: `status` says so; readable again, a change in the
    meantime is a job."""
    world.prepare().start(wrap=plain_root())
    world.prompt.parent.chmod(0)
    world.say("a clay owl")
    world.says("has no permission to read", "userPrompt.txt")
    world.stays(0.5, "nothing is sent", lambda: world.submits() == 0)
    world.prompt.parent.chmod(0o755)
    world.done()


def silent_drive(world):
    """A drive that reports nothing (like network drives): with polling every change is seen, also
    one of the same length."""
    world.settings["trigger"]["watch"] = "poll"
    world.settings["trigger"]["poll_interval_ms"] = 200
    world.prepare().start()
    assert world.status()["projects"][0]["watching"] == "poll"
    for count, words in enumerate(["a clay owl", "a clay fox", "a clay elk"], 1):
        world.say(words)
        world.done(count)


CASES = [
    root_goes_and_comes, every_error_while_placing, read_only_folder, forbidden_folder, immutable_file, file_in_its_place,
    folder_in_its_place, other_file_system, symlinks_to_outside, permissions_and_owner_are_kept, unmounted_while_placing,
    watched_folder_goes_and_comes, permission_goes_and_comes, silent_drive,
]
