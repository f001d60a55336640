"""Ending a process together with everything that it started."""

from __future__ import annotations

import os
import signal
import subprocess


def members(pid: int) -> list[int]:
    """Process ids of `pid`, its descendants, and the process groups that they lead; the deepest come first.

    The group of the calling process is never part of it. On Windows only `pid` itself: `taskkill /T` walks the tree.
    """
    if os.name == "nt":
        return [pid]
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=True, encoding="utf-8")
    rows = [line.split() for line in listing.stdout.splitlines()]
    table = {int(row[0]): (int(row[1]), int(row[2])) for row in rows if len(row) >= 4 and not row[3].startswith("Z")}
    found, frontier = [], [pid] if pid in table else []
    while frontier:
        found += frontier
        frontier = [child for child, (parent, _) in table.items() if parent in frontier and child not in found]
    groups = {table[p][1] for p in found} & set(found)
    groups.discard(os.getpgrp())
    found += [p for p, (_, group) in table.items() if group in groups and p not in found]
    return [p for p in reversed(found) if p != os.getpid()]


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
            subprocess.run(["taskkill", "/PID", str(pid), "/T", "/F"], capture_output=True, check=False)
    else:
        _signal(pids, signal.SIGKILL)


def _signal(pids, number) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has ended in the meantime, which is what we want
