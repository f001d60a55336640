"""The same work on many cases, by one process or several."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator


def over(work: Callable, cases: Iterable, processes: int, *arguments) -> Iterator:
    """`work(case, *arguments)` of each case, in their order, as they come.

    `work`, its arguments and results can be pickled. Its errors are raised here. Raises `SystemExit` where a process is
    killed, as it is where memory ends.
    """
    if processes <= 1:
        yield from (work(case, *arguments) for case in cases)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    threads = max(1, (os.cpu_count() or 1) // processes)
    # not by fork: ITK's threads do not survive it
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _begin, (threads,))
    try:
        for future in [pool.submit(work, case, *arguments) for case in cases]:
            yield future.result()
    except BrokenProcessPool:
        raise SystemExit(
            "A process was killed, perhaps as memory ended; give the command again with fewer --processes."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(threads: int) -> None:
    """Of a process: its share of the cores, and a silent end at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = str(threads)
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
