"""Settings of the process that cost nothing and save much time on CPUs; for programs, not for importers."""

import ctypes
import functools
import os
import sys

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
# exit code of a program whose reader is gone, as a shell has it (128 + SIGPIPE)
READER_GONE = 141
# mallopt's parameters in glibc, and the size (bytes) of blocks that are kept for the next allocation
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, KEPT = -1, -3, 1 << 28


def prepare() -> None:
    """Both settings below; to be called before torch is imported."""
    wait_passively()
    keep_memory()


def wait_passively() -> None:
    """Let idle OpenMP threads sleep instead of spin; has an effect before torch is imported only.

    Where another program (3D Slicer, say) keeps a core busy, spinning threads hold each other up: two sampling
    processes on two cores took 21 s instead of 2.2 s. Alone it costs nothing. What the user has set stays.
    """
    for name, value in PASSIVE.items():
        os.environ.setdefault(name, value)


def keep_memory() -> None:
    """Let glibc keep freed blocks below `KEPT` bytes: the sampler takes and frees the same sizes thousands of times,
    and a fresh page costs more than the arithmetic on it. Elsewhere than on Linux with glibc nothing is done."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT)
        mallopt(M_TRIM_THRESHOLD, 2 * KEPT)


def ends_with_its_reader(main):
    """A `main(arguments) -> exit code` that ends without a word where nobody reads its output any more (`… | head`)."""

    @functools.wraps(main)
    def run(arguments=None) -> int:
        try:
            try:
                return main(arguments)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # what is left in the buffer has nowhere to go, and would be an error as the program ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return READER_GONE

    return run
