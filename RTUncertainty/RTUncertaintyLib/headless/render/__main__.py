"""`python -m RTUncertaintyLib.headless.render SCENE_OR_RESULT --output picture.png`: a picture without a screen."""

from __future__ import annotations

import argparse
import os
import sys

from rtuncertainty.core.errors import RTUncertaintyError


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input or unwritable output."""
    parser = argparse.ArgumentParser(prog="python -m RTUncertaintyLib.headless.render", description=__doc__)
    parser.add_argument("source", help="a scene file (.mrb, .mrml) or a folder that `rtuncertainty predict` wrote")
    parser.add_argument("--output", required=True, help="PNG file to write")
    parser.add_argument(
        "--overlay",
        default="predictive",
        help="predictive, intrinsic, parameter, entropy, mutual_information, error, zscore or none",
    )
    parser.add_argument("--background", choices=("synct", "input"), default="synct", help="what lies below the overlay")
    parser.add_argument("--input", help="with a result folder: the image that was predicted from")
    options = parser.parse_args(arguments)
    try:
        from ..scene import quiet_vtk

        quiet_vtk()
        from .figure import render_file

        render_file(options.source, options.output, options.overlay, options.input, options.background)
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
