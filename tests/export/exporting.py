"""Exports in processes of their own: killed before each change of the disk, at once, on a full one.

    python exporting.py FOLDER MODE:ACTION ...

A program that the tests start. It forks, which a process in which TensorFlow has run must not. What
each MODE:ACTION leaves is in FOLDER/MODE/ACTION; given several, TensorFlow is imported once.

    kill    one run after another, in 1, 2, ...: run N is killed before the N-th change that it
            would make to the disk, until one comes to its end. Each starts with what is in `before`
    copy    one run, in `run`; N is a copy of what was there before the N-th change
    race    two processes at once, in `run`
    fill    again and again with more and more room, in `run`, until it fits

It prints, as JSON, what happened: for kill and copy, the changes of a whole run; for fill, the
errors. No moment is left out, and no second run differs, because the kernel (seccomp) holds every
system call that changes a file, in whatever thread and library it is made, until this program lets
it go on. Where it may not ask for that, it says null.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import select
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from segkit.contract import Metadata
from segkit.errors import ExportError
from segkit.export import publish
from segkit.export.publishing import new_version, prune_versions

ROUNDS = 40
ROOM_STEP = 24 * 1024  # bytes
KILL_STEP = {"publish_tiny_model": 19}  # a second a run: not before every change

# The number of the machine, of seccomp, and of the calls that change files.
MACHINES = {
    "x86_64": (
        0xC000003E,
        317,
        "1 write 18 pwrite64 20 writev 74 fsync 75 fdatasync 76 truncate 77 ftruncate 82 rename "
        "83 mkdir 84 rmdir 85 creat 86 link 87 unlink 88 symlink 90 chmod 91 fchmod 257 openat "
        "258 mkdirat 263 unlinkat 264 renameat 268 fchmodat 285 fallocate 316 renameat2",
    ),
    "aarch64": (
        0xC00000B7,
        277,
        "34 mkdirat 35 unlinkat 36 symlinkat 37 linkat 38 renameat 45 truncate 46 ftruncate "
        "47 fallocate 52 fchmod 53 fchmodat 56 openat 64 write 66 writev 68 pwrite64 82 fsync "
        "83 fdatasync 276 renameat2",
    ),
}
SET_MODE_FILTER = 1
TSYNC, NEW_LISTENER, TSYNC_ESRCH = 1 << 0, 1 << 3, 1 << 4
ALLOW, ASK = 0x7FFF0000, 0x7FC00000
RECEIVE, SEND = 0xC0502100, 0xC0182101
CONTINUE = 1
NO_NEW_PRIVILEGES = 38
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06  # the instructions of a filter
NUMBER, MACHINE, FLAGS_OF_OPENAT = 0, 4, 32  # where they are in what a filter sees


def publish_two_files(base_path: Path) -> None:
    with new_version(base_path) as new:
        (new.path / "variables").mkdir()
        (new.path / "variables" / "data").write_bytes(b"x" * 100_000)
        (new.path / "saved_model.pb").write_bytes(b"whole")


def publish_tiny_model(base_path: Path) -> None:
    """SEGKIT_TINY is a folder with tiny.keras and segkit.json."""
    given = Path(os.environ["SEGKIT_TINY"])
    model = tf.keras.models.load_model(given / "tiny.keras", compile=False)
    publish(model, Metadata.from_json((given / "segkit.json").read_bytes(), source=""), base_path)


def prune_to_one(base_path: Path) -> None:
    prune_versions(base_path, 1)


def publish_often(base_path: Path) -> None:
    """Each version says who made it, in two files."""
    for count in range(ROUNDS):
        with new_version(base_path) as new:
            for name in ("saved_model.pb", "again"):
                (new.path / name).write_text(f"{os.getpid()} {count}", encoding="utf-8")


ACTIONS: dict[str, Callable[[Path], None]] = {
    action.__name__: action
    for action in (publish_two_files, publish_tiny_model, prune_to_one, publish_often)
}


def supervise(action: Callable[[], None], before: Callable[[int, str], bool]) -> bool:
    """Runs an action in a process of its own.

    Args:
        action: What to do.
        before: Given the number and the name of a change that is to be made: whether to kill it.

    Returns:
        Whether it came to its end.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        ours.close()
        try:
            listener = _ask_before_changes()
            socket.send_fds(theirs, [b"1"], [listener])
            os.close(listener)
            action()
        except BaseException as err:
            print(repr(err), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    theirs.close()
    _, (listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    _answer(listener, child, before)
    os.close(listener)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert status == 0, "the action failed"
    return True


def _ask_before_changes() -> int:
    """From here on, threads of this process ask before a change; gives the file that is asked."""
    machine, seccomp, _ = MACHINES[platform.machine()]
    program = [(LOAD, 0, 0, MACHINE), (EQUAL, 1, 0, machine), (RETURN, 0, 0, ALLOW)]
    program += [(LOAD, 0, 0, NUMBER)]
    for number, name in _calls().items():
        if name == "openat":  # to make a file, not to read one
            program += [(EQUAL, 0, 4, number), (LOAD, 0, 0, FLAGS_OF_OPENAT)]
            program += [(ANY_BIT, 0, 1, os.O_CREAT), (RETURN, 0, 0, ASK), (RETURN, 0, 0, ALLOW)]
        else:
            program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ASK)]
    program += [(RETURN, 0, 0, ALLOW)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    flags = TSYNC | NEW_LISTENER | TSYNC_ESRCH
    listener: int = libc.syscall(seccomp, SET_MODE_FILTER, flags, head)
    if listener < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return listener


def _calls() -> dict[int, str]:
    words = MACHINES[platform.machine()][2].split()
    return {int(number): name for number, name in zip(words[::2], words[1::2], strict=True)}


def _answer(listener: int, child: int, before: Callable[[int, str], bool]) -> None:
    calls = _calls()
    ready = select.poll()
    ready.register(listener, select.POLLIN)
    count = 0
    while True:
        ((_, event),) = ready.poll()
        if not event & select.POLLIN:  # nobody is left to ask
            return
        asked = bytearray(80)
        try:
            fcntl.ioctl(listener, RECEIVE, asked)
        except FileNotFoundError:  # killed meanwhile
            continue
        identity, number = struct.unpack_from("Q8xi", asked)
        count += 1
        if before(count, calls[number]):
            os.kill(child, signal.SIGKILL)
            continue
        with_leave = struct.pack("QqiI", identity, 0, 0, CONTINUE)
        fcntl.ioctl(listener, SEND, with_leave)


def kill(action: Callable[[Path], None], folder: Path) -> list[str]:
    doomed = 1
    changes: list[str] = []
    while True:
        base_path = folder / str(doomed)
        if (folder / "before").exists():
            shutil.copytree(folder / "before", base_path)
        else:
            base_path.mkdir()
        changes.clear()
        if supervise(partial(action, base_path), partial(_note, changes, doomed)):
            return changes
        doomed += KILL_STEP.get(action.__name__, 1)


def copy(action: Callable[[Path], None], folder: Path) -> list[str]:
    changes: list[str] = []
    (folder / "run").mkdir()

    def before(count: int, name: str) -> bool:
        shutil.copytree(folder / "run", folder / str(count))
        return _note(changes, 0, count, name)

    assert supervise(partial(action, folder / "run"), before)
    return changes


def _note(changes: list[str], doomed: int, count: int, name: str) -> bool:
    changes.append(name)
    return count == doomed


def race(action: Callable[[Path], None], folder: Path) -> None:
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            action(folder / "run")
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


def fill(action: Callable[[Path], None], folder: Path) -> list[dict[str, Any]]:
    outcomes: list[dict[str, Any]] = []
    while not outcomes or outcomes[-1]["error"]:
        free = shutil.disk_usage(folder).free
        with (folder / "ballast").open("wb", buffering=0) as ballast:
            ballast.write(bytes(free - len(outcomes) * ROOM_STEP))
        error: list[str] = []
        try:
            action(folder / "run")
        except ExportError as err:
            error = [err.problem, err.expected, err.next_step]
        left = sorted(path.name for path in (folder / "run").rglob("*"))
        outcomes.append({"error": error, "left": left})
        (folder / "ballast").unlink()
    return outcomes


def main() -> None:
    folder, *jobs = sys.argv[1:]
    happened: dict[str, Any] = {}
    for job in jobs:
        mode, _, action = job.partition(":")
        place = Path(folder, mode, action)
        place.mkdir(parents=True, exist_ok=True)
        run: Any = {"kill": kill, "copy": copy, "race": race, "fill": fill}[mode]
        happened[job] = None
        if mode in ("race", "fill") or _may_ask():
            happened[job] = run(ACTIONS[action], place)
    print(json.dumps(happened))


def _may_ask() -> bool:
    try:
        return supervise(lambda: None, lambda count, name: False)
    except ValueError:  # no file came back from the child
        return False


if __name__ == "__main__":
    main()
