"""Ending a process together with everything that it started. Own code, as Slicer does not bring psutil."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

PROC = Path("/proc")
NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""For programs that the application starts on Windows, where each would open a console."""


def members(pid: int) -> list[int]:
    """Process ids of `pid`, its descendants, and the process groups that they lead; the deepest come first.

    The group of the calling process is never part of it. On Windows only `pid` itself: `taskkill /T` walks the tree.
    """
    if os.name == "nt":
        return [pid]
    table = _processes()
    found, frontier = [], [pid] if pid in table else []
    while frontier:
        found += frontier
        frontier = [child for child, (parent, _) in table.items() if parent in frontier and child not in found]
    groups = {table[p][1] for p in found} & set(found)
    groups.discard(os.getpgrp())
    found += [p for p, (_, group) in table.items() if group in groups and p not in found]
    return [p for p in reversed(found) if p != os.getpid()]


def _processes() -> dict[int, tuple[int, int]]:
    """Process id -> (its parent, its process group), of all that live."""
    if PROC.joinpath(
        "self", "stat"
    ).is_file():  # Linux: a `ps` may be missing, or refuse the libraries that Slicer's launcher puts in its way
        rows = list(filter(None, map(_stat, PROC.glob("[0-9]*/stat"))))
    else:
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,stat=,ppid=,pgid="], capture_output=True, text=True, check=True, encoding="utf-8"
        )
        rows = [line.split() for line in listing.stdout.splitlines()]
    return {int(row[0]): (int(row[2]), int(row[3])) for row in rows if len(row) >= 4 and not row[1].startswith("Z")}


def _stat(file: Path) -> list[str] | None:
    """Process id, state, parent and group of a file /proc/…/stat; None when the process has ended meanwhile."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    name_end = text.rfind(")")  # the name of a program may hold spaces and brackets
    return [text.partition(" ")[0], *text[name_end + 1 :].split()[:3]]


def terminate(pids: list[int]) -> None:
    """Ask the processes to end (SIGTERM), so that they can tidy up. Windows has no such request for a console
    program without a window: there the tree is ended at once."""
    if os.name == "nt":
        return kill(pids)
    _signal(pids, signal.SIGTERM)


def kill(pids: list[int]) -> None:
    """End the processes at once, and on Windows their trees."""
    if os.name == "nt":
        for pid in pids:
            subprocess.run(
                ["taskkill", "/PID", str(pid), "/T", "/F"], capture_output=True, check=False, creationflags=NO_WINDOW
            )
    else:
        _signal(pids, signal.SIGKILL)


def _signal(pids, number) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has ended in the meantime, which is what we want
