"""Run a Python module as `python -m` does, as the leader of a new session (POSIX).

usage: python run_in_session.py MODULE [ARGUMENT ...]

QProcess cannot start a process group from Python. With one, everything the backend started can be ended together,
also when PythonSlicer, which is only a launcher, is gone already.
"""

import os
import runpy
import sys

if __name__ == "__main__":
    if hasattr(os, "setsid") and os.getpid() != os.getpgrp():
        os.setsid()
    module = sys.argv[1]
    sys.argv = [module, *sys.argv[2:]]
    sys.path.pop(0)  # the folder of this file: its modules must not hide others
    runpy.run_module(module, run_name="__main__", alter_sys=True)
