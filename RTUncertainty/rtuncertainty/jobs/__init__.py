"""A job from inputs to a result folder: run, write, add scene and report, move into place."""
