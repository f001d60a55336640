"""The errors that a user can cause or meet, each with the exit code of the command line."""

from __future__ import annotations

from pathlib import Path


class RTUncertaintyError(Exception):
    """Base of every error that is shown to the user in one line. Exit code 1.

    `output`: the folder of a result that is whole all the same.
    """

    exit_code = 1
    output: Path | None = None


class InputError(RTUncertaintyError):
    """Bad input or usage: the message names the file or node, what is wrong and what to do. Exit code 2."""

    exit_code = 2


class OutOfMemoryError(RTUncertaintyError):
    """Neither the device nor the CPU had enough memory, even with the smallest tiles. Exit code 3."""

    exit_code = 3


class Cancelled(RTUncertaintyError):
    """The user cancelled the run; nothing was written. Exit code 4."""

    exit_code = 4
