"""A journal of what a command asked of the file system, and the folder as it may be after the power went at some point of it.

Sure after a cut is what was asked for in vain nowhere: of a file what was there at its last fsync, of a folder the names that it
had when it was last synced. What was written since may be there in part: names in their order, bytes in their order, or the
file's length with zeros in place of bytes.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

CALLS = "openat,creat,write,pwrite64,lseek,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,link,linkat"
LINE = re.compile(rb"^(\d+) +(.*)$")
CALL = re.compile(rb"^(\w+)\((.*)\)\s+= (-?\d+)(?:<.*>)?(?: .*)?$", re.S)


def unescaped(text):
    return bytes(int(text[at + 2 : at + 4], 16) for at in range(0, len(text), 4))


def strings(text):
    return [unescaped(found) for found in re.findall(rb'"((?:\\x[0-9a-f]{2})*)"', text)]


class File:
    def __init__(self, data=b""):
        self.data = bytearray(data)


class Journal:
    """Events: ("name", folder, path, file or target or None), ("bytes", file, offset, data), ("length", file, size), ("sync", file),
    ("folder", path)."""

    def __init__(self, root):
        self.root, self.events = root, []

    @classmethod
    def record(cls, cwd, root, command, environment):
        log = cwd / "journal"
        strace = ["strace", "-f", "-qq", "-xx", "-y", "-s", "100000000", "-o", str(log), "-e", f"trace={CALLS}"]
        done = subprocess.run([*strace, *command], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        journal = cls(str(root))
        journal.read(log, str(cwd))
        log.unlink()
        return journal

    def read(self, log, cwd):
        pending, self.names, self.open = {}, {self.root: "folder"}, {}
        for line in log.read_bytes().splitlines():
            thread, rest = LINE.match(line).groups()
            if rest.endswith(b"<unfinished ...>"):
                pending[thread] = rest[: -len(b"<unfinished ...>")].rstrip()
                continue
            resumed = re.match(rb"^<\.\.\. \w+ resumed>(.*)$", rest, re.S)
            if resumed:
                rest = pending.pop(thread) + resumed[1]
            call = CALL.match(rest)
            if call and int(call[3]) >= 0:
                self.call(call[1].decode(), call[2], int(call[3]), cwd)

    def path(self, folder, name, cwd):
        """A path that may be relative to a folder that was opened."""
        name = name.decode()
        at = re.match(rb"\d+<((?:\\x[0-9a-f]{2})*|[^>]*)>", folder) if folder else None
        base = cwd
        if at:
            base = (unescaped(at[1]) if at[1].startswith(b"\\x") else at[1]).decode()
        return os.path.normpath(os.path.join(base, name))

    def ours(self, path):
        return path == self.root or path.startswith(self.root + "/")

    def called(self, path, what):
        if self.ours(path):
            self.events.append(("name", os.path.dirname(path), path, what))
            if what is None:
                self.names.pop(path, None)
            else:
                self.names[path] = what

    def call(self, name, words, result, cwd):
        texts = strings(re.sub(rb"<(?:\\x[0-9a-f]{2})*>", b"", words))
        number = re.match(rb"(\d+)", words)
        number = int(number[1]) if number else None
        if name in ("openat", "creat"):
            path = self.path(words if name == "openat" else None, texts[0], cwd)
            self.open.pop(result, None)
            if not self.ours(path):
                return
            # a folder is opened to be synced
            if self.names.get(path) == "folder":
                self.open[result] = (path, 0, False)
                return
            file = self.names.get(path)
            if file is None and b"O_CREAT" in words:
                file = File()
                self.called(path, file)
            if isinstance(file, File):
                if b"O_TRUNC" in words and file.data:
                    self.length(file, 0)
                self.open[result] = (file, 0, b"O_APPEND" in words)
            return
        if name in ("rename", "renameat", "renameat2"):
            ends = re.match(rb"([^,]*), \"[^\"]*\", ([^,]*), ", words)
            first, second = (ends[1], ends[2]) if ends and name != "rename" else (None, None)
            old, new = self.path(first, texts[0], cwd), self.path(second, texts[1], cwd)
            self.move(old, new)
        elif name in ("unlink", "unlinkat", "rmdir"):
            self.called(self.path(words if name == "unlinkat" else None, texts[0], cwd), None)
        elif name in ("mkdir", "mkdirat"):
            self.called(self.path(words if name == "mkdirat" else None, texts[0], cwd), "folder")
        elif name in ("symlink", "symlinkat"):
            folder = re.search(rb"\", ([^,]*), \"", words)
            self.called(self.path(folder[1] if folder else None, texts[1], cwd), texts[0].decode())
        elif name in ("link", "linkat"):
            file = self.names.get(self.path(None, texts[0], cwd))
            if file is not None:
                self.called(self.path(None, texts[1], cwd), file)
        elif number in self.open:
            what, offset, appends = self.open[number]
            if name in ("fsync", "fdatasync"):
                self.events.append(("folder", what) if isinstance(what, str) else ("sync", what))
            elif isinstance(what, str):
                return
            elif name == "lseek":
                self.open[number] = (what, result, appends)
            elif name == "ftruncate":
                self.length(what, int(words.rsplit(b",", 1)[1]))
            elif name in ("write", "pwrite64"):
                if name == "pwrite64":
                    offset = int(words.rsplit(b",", 1)[1])
                elif appends:
                    offset = len(what.data)
                data = texts[0][:result]
                self.events.append(("bytes", what, offset, data))
                what.data[offset : offset + len(data)] = data
                if name == "write":
                    self.open[number] = (what, offset + result, appends)

    def length(self, file, size):
        self.events.append(("length", file, size))
        file.data = file.data[:size].ljust(size, b"\0")

    def move(self, old, new):
        if not (self.ours(old) and self.ours(new)) or old not in self.names:
            return
        what = self.names.pop(old)
        self.names[new] = what
        # of one folder both happen at once
        self.events.append(("move", os.path.dirname(new), old, new, what))
        if what == "folder":
            for name in [n for n in self.names if n.startswith(old + "/")]:
                self.names[new + name[len(old) :]] = self.names.pop(name)

    def cut(self, to, random):
        """Makes the folder as it may be after a cut; says where that was."""
        end = random.randint(0, len(self.events))
        events = self.events[:end]
        synced_folders, synced_files = {}, {}
        for at, event in enumerate(events):
            if event[0] == "folder":
                synced_folders[event[1]] = at
            elif event[0] == "sync":
                synced_files[id(event[1])] = at
        # how far the journal of each folder, and the bytes of each file, came
        folders, files, zeros = {}, {}, random.random() < 0.2
        names, data = {self.root: "folder"}, {}
        reach = lambda known, at: random.choice([known, random.randint(known, end), end]) if at is None else at
        for at, event in enumerate(events):
            kind = event[0]
            if kind in ("name", "move"):
                folder = event[1]
                folders[folder] = reach(synced_folders.get(folder, -1), folders.get(folder))
                if at > folders[folder] or names.get(folder) != "folder":
                    continue
                if kind == "move":
                    old, new, what = event[2:]
                    for name in [n for n in names if n == old or n.startswith(old + "/")]:
                        names[new + name[len(old) :]] = names.pop(name)
                    names.setdefault(new, what)
                elif event[3] is None:
                    names.pop(event[2], None)
                else:
                    names[event[2]] = event[3]
            elif kind in ("bytes", "length"):
                file = event[1]
                files[id(file)] = reach(synced_files.get(id(file), -1), files.get(id(file)))
                held = data.setdefault(id(file), bytearray())
                if at > files[id(file)] and not zeros:
                    continue
                if kind == "length":
                    data[id(file)] = held[: event[2]].ljust(event[2], b"\0")
                    continue
                written = event[3] if at <= files[id(file)] else bytes(len(event[3]))
                held[:] = held.ljust(event[2], b"\0")
                held[event[2] : event[2] + len(written)] = written
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        for path, what in sorted(names.items()):
            if not os.path.isdir(os.path.dirname(path)):
                continue
            if what == "folder":
                os.makedirs(path, exist_ok=True)
            elif isinstance(what, str):
                os.symlink(what, path)
            else:
                Path(path).write_bytes(data.get(id(what), b""))
        return f"after event {end} of {len(self.events)}"
