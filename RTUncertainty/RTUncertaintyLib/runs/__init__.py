"""A result in the scene as one run: load, show, find again, remove. The functions of `HOMES` are imported when they
are asked for.
"""

from __future__ import annotations

HOMES = {
    "Run": "run",
    "PredictionRun": "prediction",
    "PropagationRun": "propagation.run",
    "OwnRun": "own",
    "load_run": "registry",
    "find_runs": "registry",
    "run_nodes": "registry",
    "load_result": "load",
    "load_propagation": "propagation.load",
    "OVERLAYS": "overlays",
    "refresh_legends": "overlays",
    "show_result": "show",
    "show_overlay": "show",
    "shown_overlay": "show",
    "chosen_overlay": "show",
    "set_overlay_threshold": "show",
    "overlay_threshold": "show",
    "overlay_range": "show",
    "layouts": "layout",
    "layout_of": "layout",
    "set_layout": "layout",
    "shown_3d": "layout",
    "show_3d": "layout",
    "centre_3d": "layout",
    "in_views": "layout",
    "remove_run": "removal",
    "watch_scene": "removal",
    "show_propagation": "propagation.show",
    "show_blend": "propagation.show",
    "blend_images": "propagation.show",
    "contour_sets": "propagation.show",
    "show_contours": "propagation.show",
    "contours_visible": "propagation.show",
    "jump_to_structure": "propagation.show",
    "accept_structures": "propagation.accept",
    "accepted_paths": "propagation.accept",
    "apply_deformation": "propagation.transform",
    "undo_deformation": "propagation.transform",
    "deformed_nodes": "propagation.transform",
    "reason_not_to_move": "propagation.transform",
    "review_segmentation": "own",
    "match_probabilities": "own",
}
"""Public name -> the module of this package that holds it."""


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
