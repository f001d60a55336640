"""Progress, notes and cancellation of a job."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .errors import Cancelled

# stage -> share of a run's time, measured on a 256 × 256 × 80 MR with 20 samples on two cores
SHARES = {"read": 0.02, "preprocess": 0.06, "network": 0.80, "assemble": 0.06, "write": 0.06}
# the same of a propagation, of 128 × 128 × 110 voxels with 20 samples and 20 structures; without a network it searches
# in its place and samples after the refinement
PROPAGATION = {
    "read": 0.05,
    "align": 0.10,
    "search": 0.0,
    "network": 0.35,
    "refine": 0.25,
    "sample": 0.0,
    "assemble": 0.15,
    "write": 0.10,
}
EXTRA = {"scene": 0.05, "report": 0.03}


class CancelToken:
    """Set from any thread; a job that sees it raises `Cancelled` at the next step."""

    def __init__(self):
        self._event = threading.Event()

    def cancel(self) -> None:
        """Asks the job to stop."""
        self._event.set()

    def check(self) -> None:
        """Lets a job go on, or not.

        Raises:
            Cancelled: `cancel` was called.
        """
        if self._event.is_set():
            raise Cancelled("Cancelled; nothing was written.")


@dataclass
class Progress:
    """Turns stages and fractions into events (dicts) and keeps the time of each stage.

    Attributes:
        listener: called with every event.
        cancel: the token that every stage looks at.
        extra: names of the optional stages that will follow ("scene", "report").
        seconds: {stage: its time}.
        notes: texts for the user, as `note` took them.
        shares: {stage of the job: its share of the time}.
    """

    listener: Callable[[dict], None] | None = None
    cancel: CancelToken = field(default_factory=CancelToken)
    extra: tuple = ()
    seconds: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    shares: dict = field(default_factory=lambda: SHARES)
    part: tuple[float, float] = (0.0, 1.0)  # of a stage, of what is told from now on

    def __post_init__(self):
        shares = {**self.shares, **{k: EXTRA[k] for k in self.extra}}
        total = sum(shares.values())
        self._shares = {k: v / total for k, v in shares.items()}
        self._stage, self._started, self._stage_started = None, time.monotonic(), time.monotonic()
        self._said: dict | None = None

    def stage(self, name: str, fraction: float = 0.0, message: str = "") -> None:
        """Says how far a stage is.

        Args:
            name: of the stage; another one than before closes that.
            fraction: 0 to 1.
            message: a text for the user.

        Raises:
            Cancelled: the job was cancelled.
        """
        self.cancel.check()
        fraction = self.part[0] + (self.part[1] - self.part[0]) * fraction
        now = time.monotonic()
        if name != self._stage:
            self.close()
            self._stage, self._stage_started = name, now
        before = 0.0
        for k, v in self._shares.items():
            if k == name:
                break
            before += v
        overall = min(1.0, before + self._shares.get(name, 0.0) * fraction)
        left = None
        if fraction > 0.02 and name == "network":
            # the network dominates, and its own speed is known by now
            rate = (now - self._stage_started) / fraction
            left = rate * (1 - fraction) + rate / self._shares[name] * (1 - before - self._shares[name])
        elif overall > 0.85:
            left = (now - self._started) / overall * (1 - overall)
        event = {
            "event": "progress",
            "stage": name,
            "fraction": round(fraction, 4),
            "overall": round(overall, 4),
            "seconds_left": None if left is None else round(left, 1),
            "message": message,
        }
        # whoever only looks whether the job was cancelled has nothing new to tell
        if event != self._said:
            self._said = event
            self._tell(event)

    def close(self) -> None:
        """End the current stage's clock."""
        if self._stage is not None:
            spent = time.monotonic() - self._stage_started
            self.seconds[self._stage] = round(self.seconds.get(self._stage, 0.0) + spent, 3)
            self._stage = None

    def note(self, message: str) -> None:
        """Something that the user should know; kept in `notes` for the summary.

        Args:
            message: whole sentences.
        """
        self.notes.append(message)
        self._tell({"event": "note", "message": message})

    def _tell(self, event: dict) -> None:
        if self.listener is not None:
            self.listener(event)


def as_json(event: dict, ascii_only: bool = False) -> str:
    """One JSON line of an event; ascii_only: other letters are escaped."""
    return json.dumps(event, ensure_ascii=ascii_only)
