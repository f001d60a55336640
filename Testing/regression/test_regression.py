"""The numbers of the fast steps of `regression.py` are those of `expected.json`."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("regression.py")


def test_the_same_numbers_as_before():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "compare", "--fast"], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
