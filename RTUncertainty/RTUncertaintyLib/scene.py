"""The functions for the console: a result folder in the scene, loaded, shown, found again, reviewed and removed.

`load_result(folder)` -> `PredictionRun`; `show_result`, `show_overlay`, `set_overlay_threshold`; `find_runs`,
`run_nodes`; `remove_run`, `watch_scene`. Of a propagation: `load_propagation(folder)` -> `PropagationRun`;
`show_propagation`, `show_blend`, `show_contours`, `jump_to_structure`; `accept_structures`; `apply_deformation`,
`undo_deformation`. Review of any
run: `load_run`, `show_run`, `review_structure`, `show_nested`, `uncertain_regions`, `decide`;
`review_segmentation(segmentation, probabilities)` for the user's own data. Works in the Slicer application and, without
a screen, on `slicer-core`; `python -m RTUncertaintyLib.headless RESULT --output scene.mrb` writes a scene file.
"""

from . import review, runs

__all__ = sorted([*runs.HOMES, *review.HOMES, "write_scene"])


def __getattr__(name: str):
    """The public names, imported when they are asked for: `python -m` can then say what is missing in one line."""
    if name == "write_scene":
        from .headless.scene_bundle import write_scene

        return write_scene
    if name in __all__:
        return getattr(review, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
