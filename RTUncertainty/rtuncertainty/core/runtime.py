"""Settings of the process that cost nothing and save much time on CPUs; for programs, not for importers."""

import ctypes
import os
import sys

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
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
