"""Runs the backend as a separate process: `ProcessRunner` on Qt's event loop, `run_and_wait` without Qt."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Callable

from . import process_tree
from .command import BackendCommand
from .events import EventStream, Exit

GRACE_MS = 3000
"""Time that a cancelled run has to tidy up before it is killed."""
TAIL = 4000
IDLE_S = 0.05


class ProcessRunner:
    """One run of the backend in a `qt.QProcess`.

    `on_event(dict)` is called for every JSON event, `on_log(str)` for every other line, `on_end(Exit)` exactly once,
    after the last event and when no process of the run is left. After `cancel` and `abort` it is called too.
    """

    def __init__(self, command: BackendCommand, on_event: Callable, on_log: Callable, on_end: Callable):
        self._command, self._on_event, self._on_log, self._on_end = command, on_event, on_log, on_end
        self._stream, self._errors, self._errors_rest = EventStream(), "", b""
        self._error, self._doomed, self._process, self._ended, self._timer = {}, [], None, None, None

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None

    def start(self, arguments: list[str]) -> None:
        """Start the backend with these arguments; returns at once."""
        import qt

        environment = qt.QProcessEnvironment.systemEnvironment()
        for name, value in self._command.environment().items():
            if value:
                environment.insert(name, value)
            else:
                environment.remove(name)
        self._process = qt.QProcess()
        self._process.setProcessEnvironment(environment)
        self._process.connect("readyReadStandardOutput()", self._read_output)
        self._process.connect("readyReadStandardError()", self._read_errors)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._failed)
        self._process.start(self._command.python, self._command.arguments(arguments))

    def cancel(self) -> None:
        """Ask the run to end, and kill its whole process tree if it has not after a few seconds."""
        import qt

        if self._process is None or self._doomed:
            return
        self._doomed = process_tree.members(self._process.processId())
        process_tree.terminate(self._doomed)
        # A timer object: PythonQt may drop a named function that is given to the static singleShot.
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._kill)
        self._timer.start(GRACE_MS)

    def abort(self) -> None:
        """End the whole process tree now and wait for it; for a widget or a scene that goes away."""
        if self._process is not None:
            process = self._process
            self._doomed = sorted({*self._doomed, *process_tree.members(process.processId())}, reverse=True)
            self._kill()
            process.waitForFinished(2000)

    def _kill(self) -> None:
        if self._process is not None:
            # Children may have been started since the request to end.
            process_tree.kill([*process_tree.members(self._process.processId()), *self._doomed])

    def _read_output(self) -> None:
        if self._process is not None:
            self._tell(self._stream.feed(_bytes(self._process.readAllStandardOutput())))

    def _tell(self, events: list[dict]) -> None:
        for event in events:
            if event["event"] == "error":
                self._error = event
            self._on_event(event)
        for line in self._stream.stray:
            self._on_log(line)
        self._stream.stray.clear()

    def _read_errors(self) -> None:
        if self._process is None:
            return
        *lines, self._errors_rest = (self._errors_rest + _bytes(self._process.readAllStandardError())).split(b"\n")
        self._log_errors(lines)

    def _log_errors(self, lines: list[bytes]) -> None:
        for line in (raw.decode("utf-8", errors="replace").rstrip() for raw in lines):
            if line:
                self._errors = f"{self._errors}\n{line}"[-TAIL:]
                self._on_log(line)

    def _finished(self, code, status) -> None:
        import qt

        crashed = status == qt.QProcess.CrashExit
        # On POSIX Qt gives the signal's number in place of the exit code.
        signal_number = int(code) if crashed and os.name != "nt" else None
        self._end(Exit(None if crashed and os.name != "nt" else int(code), signal_number))

    def _failed(self, error) -> None:
        import qt

        if error == qt.QProcess.FailedToStart:
            self._end(Exit(not_started=f"{self._command.python}: {self._process.errorString()}"))

    def _end(self, end: Exit) -> None:
        if self._process is None:
            return
        self._read_output()
        self._read_errors()
        self._tell(self._stream.close())
        self._log_errors([self._errors_rest])
        if self._timer is not None:
            self._timer.stop()
        if self._doomed:
            process_tree.kill(self._doomed)
        # Kept, and deleted by the event loop: this may be called by one of its own signals, and PythonQt deletes an
        # object with its last reference.
        self._ended, self._process = self._process, None
        self._ended.deleteLater()
        end.error, end.errors_tail = str(self._error.get("message", "")), self._errors
        end.output = str(self._error.get("output") or "")
        self._on_end(end)


def run_and_wait(
    command: BackendCommand,
    arguments: list[str],
    on_event: Callable,
    on_log: Callable,
    idle: Callable[[], None] | None = None,
) -> Exit:
    """Run the backend and wait for it, without Qt. An exception in a callback, Ctrl+C too, ends the process tree.

    `idle` is called some twenty times a second while there is nothing to read: an application lives on there.
    """
    environment = {**os.environ, **command.environment()}
    environment = {name: value for name, value in environment.items() if value}
    try:
        process = subprocess.Popen(
            [command.python, *command.arguments(arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            creationflags=process_tree.NO_WINDOW,
        )
    except OSError as error:
        return Exit(not_started=f"{command.python}: {error.strerror}")
    stream, errors, failure = EventStream(), [], {}

    def read_errors():
        for line in process.stderr:
            errors.append(line.decode("utf-8", errors="replace").rstrip())

    lines: queue.Queue = queue.Queue()

    def read_output():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    readers = [threading.Thread(target=read, daemon=True) for read in (read_errors, read_output)]
    for reader in readers:
        reader.start()
    try:
        for line in _lines(lines, idle):
            for event in stream.feed(line):
                failure = event if event["event"] == "error" else failure
                on_event(event)
        code = process.wait()
    except BaseException:
        process_tree.kill(process_tree.members(process.pid))
        process.wait()
        raise
    finally:
        for reader in readers:
            reader.join(timeout=5)
        process.stdout.close()
        process.stderr.close()
    for event in stream.close():
        failure = event if event["event"] == "error" else failure
        on_event(event)
    for line in [*stream.stray, *errors]:
        on_log(line)
    message, output = str(failure.get("message", "")), str(failure.get("output") or "")
    return Exit(code, error=message, errors_tail="\n".join(errors)[-TAIL:], output=output)


def _lines(lines: queue.Queue, idle: Callable[[], None] | None):
    """What comes through the queue, until None does; `idle()` in between."""
    while True:
        try:
            line = lines.get(timeout=IDLE_S if idle is not None else None)
        except queue.Empty:
            idle()
            continue
        if line is None:
            return
        yield line


def _bytes(array) -> bytes:
    """The content of a QByteArray; PythonQt gives None for one without."""
    return bytes(array.data() or b"")
