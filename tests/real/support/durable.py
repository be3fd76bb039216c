"""What is on a disk after a power loss: a run's system calls, replayed into a file system that
forgets what was not synced.

Owns the model. A file's bytes are durable as of its last fsync or fdatasync, a folder's names as of
the folder's last fsync: what POSIX guarantees, and no more (ext4 keeps more, so a run on a real
ext4 would hide a missing sync of a folder). The calls come from `strace`; what existed when the
recording began counts as durable.
"""

import pathlib, random, re

CALLS = ("openat,write,pwrite64,writev,ftruncate,lseek,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
         "mkdir,mkdirat,rmdir,copy_file_range,sendfile,close,dup,fcntl")


def recorder(log):
    """Returns the words to put before a command."""
    return ["strace", "-f", "-y", "-xx", "-s", "8388608", "-o", str(log), "-e", f"trace={CALLS}", "-e", "signal=none"]


class Node:
    def __init__(self, folder=False):
        self.names = {} if folder else None
        self.kept_names = {} if folder else None
        self.data, self.kept = bytearray(), b""


class Disk:
    """The tree below `base`, as it is now and as it is on the disk."""

    def __init__(self, base, forgets=""):
        self.forgets = forgets
        self.base, self.root, self.at = pathlib.Path(base), Node(True), {}
        self._load(self.root, self.base)
        self.syncs = 0

    def _load(self, node, path):
        for entry in sorted(path.iterdir()):
            if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
                continue
            child = Node(entry.is_dir())
            if child.names is None:
                child.data = bytearray(entry.read_bytes())
                child.kept = bytes(child.data)
            else:
                self._load(child, entry)
            node.names[entry.name] = node.kept_names[entry.name] = child

    def place(self, path):
        """Returns the folder's node and the name, for a path below the base."""
        try:
            parts = pathlib.Path(path).relative_to(self.base).parts
        except ValueError:
            return None, None
        node = self.root
        for part in parts[:-1]:
            node = (node.names or {}).get(part) if node else None
        return (node, parts[-1]) if node and parts and node.names is not None else (None, None)

    def find(self, path):
        if pathlib.Path(path) == self.base:
            return self.root
        folder, name = self.place(path)
        return folder.names.get(name) if folder else None

    # Calls.

    def replay(self, log):
        waiting = {}
        for line in open(log, errors="replace"):
            pid, _, rest = line.rstrip("\n").partition(" ")
            rest = rest.lstrip()
            if rest.endswith("<unfinished ...>"):
                waiting[pid] = rest[: -len("<unfinished ...>")]
                continue
            resumed = re.match(r"<\.\.\. \w+ resumed>", rest)
            if resumed:
                rest = waiting.pop(pid, "") + rest[resumed.end():]
            self._call(rest)

    def _call(self, text):
        parsed = re.match(r"(\w+)\((.*)\)\s*= (-?\d+)(<[^>]*>)?", text, re.S)
        if not parsed or parsed[3].startswith("-"):
            return
        name, arguments, result = parsed[1], split(parsed[2]), int(parsed[3])
        act = getattr(self, f"_{name}", None)
        if act:
            act(arguments, result, parsed[4])

    def _openat(self, a, result, opened):
        path = unhex(a[1])
        if not path.startswith("/"):
            path = str(pathlib.Path(fd_path(a[0])) / path)
        self.at[result] = 0
        folder, name = self.place(path)
        if folder is None:
            return
        if name not in folder.names and "O_CREAT" in a[2]:
            folder.names[name] = Node()
        node = folder.names.get(name)
        if node and node.names is None and "O_TRUNC" in a[2]:
            node.data = bytearray()
        if node and node.names is None and "O_APPEND" in a[2]:
            self.at[result] = len(node.data)

    def _lseek(self, a, result, _):
        self.at[fd(a[0])] = result

    def _put(self, which, offset, data):
        node = self.find(fd_path(which))
        if node is None or node.names is not None:
            return
        if len(node.data) < offset:
            node.data.extend(bytes(offset - len(node.data)))
        node.data[offset:offset + len(data)] = data

    def _write(self, a, result, _):
        at = self.at.get(fd(a[0]), 0)
        self._put(a[0], at, unhex_bytes(a[1])[:result])
        self.at[fd(a[0])] = at + result

    def _pwrite64(self, a, result, _):
        self._put(a[0], int(a[3]), unhex_bytes(a[1])[:result])

    def _writev(self, a, result, _):
        data = b"".join(unhex_bytes(part) for part in re.findall(r'iov_base=("[^"]*")', a[1]))
        at = self.at.get(fd(a[0]), 0)
        self._put(a[0], at, data[:result])
        self.at[fd(a[0])] = at + result

    def _copy(self, source, target, result, source_at, target_at):
        node = self.find(fd_path(source))
        start = source_at if source_at is not None else self.at.get(fd(source), 0)
        to = target_at if target_at is not None else self.at.get(fd(target), 0)
        if node is not None:
            self._put(target, to, bytes(node.data[start:start + result]))
        if source_at is None:
            self.at[fd(source)] = start + result
        if target_at is None:
            self.at[fd(target)] = to + result

    def _copy_file_range(self, a, result, _):
        number = lambda word: None if word == "NULL" else int(re.search(r"\d+", word)[0]) - result
        self._copy(a[0], a[2], result, number(a[1]), number(a[3]))

    def _sendfile(self, a, result, _):
        self._copy(a[1], a[0], result, None, None)

    def _ftruncate(self, a, _r, _):
        node, size = self.find(fd_path(a[0])), int(a[1])
        if node is not None and node.names is None:
            node.data = node.data[:size] + bytearray(max(0, size - len(node.data)))

    def _fsync(self, a, _r, _):
        node = self.find(fd_path(a[0]))
        if node is None:
            return
        ledger = "ledger.sqlite" in fd_path(a[0])
        kind = "folders" if node.names is not None else "ledger" if ledger else "files"
        if kind == self.forgets:
            return
        self.syncs += 1
        if node.names is None:
            node.kept = bytes(node.data)
        else:
            node.kept_names = dict(node.names)

    _fdatasync = _fsync

    def _move(self, old, new):
        (here, name), (there, other) = self.place(old), self.place(new)
        if here is not None and there is not None and name in here.names:
            there.names[other] = here.names.pop(name)

    def _rename(self, a, _r, _):
        self._move(unhex(a[0]), unhex(a[1]))

    def _renameat(self, a, _r, _):
        self._move(joined(a[0], a[1]), joined(a[2], a[3]))

    _renameat2 = _renameat

    def _same(self, old, new):
        (here, name), (there, other) = self.place(old), self.place(new)
        if here is not None and there is not None and name in here.names:
            there.names[other] = here.names[name]

    def _link(self, a, _r, _):
        self._same(unhex(a[0]), unhex(a[1]))

    def _linkat(self, a, _r, _):
        self._same(joined(a[0], a[1]), joined(a[2], a[3]))

    def _drop(self, path):
        folder, name = self.place(path)
        if folder is not None:
            folder.names.pop(name, None)

    def _unlink(self, a, _r, _):
        self._drop(unhex(a[0]))

    _rmdir = _unlink

    def _unlinkat(self, a, _r, _):
        self._drop(joined(a[0], a[1]))

    def _mkdir(self, a, _r, _):
        folder, name = self.place(unhex(a[0]))
        if folder is not None:
            folder.names.setdefault(name, Node(True))

    def _mkdirat(self, a, _r, _):
        folder, name = self.place(joined(a[0], a[1]))
        if folder is not None:
            folder.names.setdefault(name, Node(True))

    # What is left.

    def differs(self, real):
        """Returns the first file in which the replayed tree differs from the real one: then the
        model has missed a call."""
        return self._differs(self.root, pathlib.Path(real))

    def _differs(self, node, real):
        for name, child in node.names.items():
            path = real / name
            if name.endswith(("-shm", ".log")) or name == "log" or ".sock" in name:
                continue
            if child.names is not None:
                found = self._differs(child, path) if path.is_dir() else str(path)
                if found:
                    return found
            elif not path.exists() or path.read_bytes() != bytes(child.data):
                return str(path)
        return None

    def leave(self, to, how, draw):
        """Writes what the disk may have.

            `strict`: nothing that was not synced. `names`: every name, but only synced bytes, and zeros for the others. `torn`: for
            each file and each folder one or the other.
        """
        self._leave(self.root, pathlib.Path(to), how, draw)

    def _leave(self, node, path, how, draw):
        path.mkdir(exist_ok=True)
        path.chmod(0o700)
        names = {"strict": node.kept_names, "names": node.names}.get(how)
        if names is None:
            names = {}
            for name in sorted({*node.names, *node.kept_names}):
                now, then = node.names.get(name), node.kept_names.get(name)
                kept = now if now is then or draw.random() < 0.5 else then
                if kept is not None:
                    names[name] = kept
        for name, child in sorted(names.items()):
            if name.endswith("-shm"):
                continue
            if child.names is not None:
                self._leave(child, path / name, how, draw)
                continue
            data = child.kept
            if how == "torn" and draw.random() < 0.5:
                data = bytes(child.data)
            elif how != "strict":
                data = data[:len(child.data)] + bytes(max(0, len(child.data) - len(data)))
            (path / name).write_bytes(data)
            (path / name).chmod(0o600)


def split(text):
    """Splits a call's arguments; commas in strings and structures do not count."""
    parts, depth, quoted, start = [], 0, False, 0
    for at, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif not quoted and letter in "([{<":
            depth += 1
        elif not quoted and letter in ")]}>":
            depth -= 1
        elif not quoted and letter == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    parts.append(text[start:].strip())
    return parts


def unhex_bytes(word):
    inner = word[word.index('"') + 1:word.rindex('"')]
    return bytes.fromhex(inner.replace("\\x", ""))


def unhex(word):
    return unhex_bytes(word).decode()


def fd(word):
    return int(re.match(r"\d+", word)[0])


def fd_path(word):
    inside = re.search(r"<(.*)>", word)
    return bytes.fromhex(inside[1].replace("\\x", "")).decode() if inside and "\\x" in inside[1] else "/nowhere"


def joined(folder, word):
    path = unhex(word)
    return path if path.startswith("/") else str(pathlib.Path(fd_path(folder)) / path)
