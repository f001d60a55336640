"""`python -m RTUncertaintyLib.headless RESULT --output scene.mrb`: the scene file of a result, without a screen."""

from __future__ import annotations

import argparse
import os
import sys

from rtuncertainty.core.errors import RTUncertaintyError


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input or unwritable output."""
    parser = argparse.ArgumentParser(prog="python -m RTUncertaintyLib.headless", description=__doc__)
    parser.add_argument("result", help="folder that `rtuncertainty predict` or `propagate` wrote")
    parser.add_argument(
        "--input", help="the image that was predicted from, or the daily CT; it becomes part of the scene"
    )
    parser.add_argument("--output", required=True, help="scene file to write, .mrb")
    options = parser.parse_args(arguments)
    try:
        from .scene import quiet_vtk

        quiet_vtk()
        from .scene_bundle import write_scene

        write_scene(options.result, options.output, options.input)
    except RTUncertaintyError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # VTK's Python objects outlive the interpreter in no fixed order; leaving at once keeps the exit code.
    os._exit(code)
