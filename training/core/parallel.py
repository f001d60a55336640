"""The same work on many cases, by one process or several."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator


def over(work: Callable, cases: Iterable, processes: int, *arguments, apart: bool = False) -> Iterator:
    """The same work on each case, in their order, as they come; its errors are raised here.

    `work`, its arguments and results can be pickled.

    Args:
        work: called as `work(case, *arguments)`.
        cases: any.
        processes: how many; 1: this one, unless `apart`.
        *arguments: of `work`.
        apart: even one process is one of its own. Libraries that run for minutes and do not let Python go on (elastix)
            leave no time for Ctrl-C in theirs; here it ends them.

    Yields:
        What `work` returned.

    Raises:
        SystemExit: a process was killed, as it is where memory ends.
    """
    if processes <= 1 and not apart:
        yield from (work(case, *arguments) for case in cases)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    processes = max(1, processes)
    threads = max(1, (os.cpu_count() or 1) // processes)
    _track_in_silence()
    # not by fork: ITK's threads do not survive it
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _begin, (threads,))
    try:
        with _interrupts_kept_from_children():
            futures = [pool.submit(work, case, *arguments) for case in cases]
        for future in futures:
            yield future.result()
    except BrokenProcessPool:
        raise SystemExit(
            "A process was killed, perhaps as memory ended; give the command again with fewer --processes."
        ) from None
    except KeyboardInterrupt:
        for child in multiprocessing.active_children():
            child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _interrupts_kept_from_children:
    """Processes that are begun meanwhile do not see Ctrl-C, not even while they import: who began them ends them."""

    def __enter__(self):
        # not on Windows
        self.mask = getattr(signal, "pthread_sigmask", None)
        self.before = self.mask(signal.SIG_BLOCK, {signal.SIGINT}) if self.mask else None

    def __exit__(self, *_):
        if self.mask:
            self.mask(signal.SIG_SETMASK, self.before)


def _track_in_silence() -> None:
    """Python's tracker of what processes leave behind tidies up after those that are ended, and says nothing of it."""
    from multiprocessing import resource_tracker

    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker"]))
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _begin(threads: int) -> None:
    """Of a process: its share of the cores, a silent end at Ctrl-C (on Windows), and one with who began it."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = str(threads)
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _end_with(parent) -> None:
    parent.join()
    os._exit(1)
