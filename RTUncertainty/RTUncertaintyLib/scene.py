"""The functions for the console: a result folder in the scene, loaded, shown, found again, reviewed and removed.

`load_result(folder)` -> `RunNodes`; `show_result`, `show_overlay`, `set_overlay_threshold`; `find_runs`, `run_nodes`;
`remove_run`, `watch_scene`. Of a propagation: `load_propagation(folder)` -> `PropagationNodes`; `show_propagation`,
`show_blend`, `show_contours`, `jump_to_structure`; `accept_structures`; `apply_deformation`, `undo_deformation`. Review of any
run: `show_run`, `review_structure`, `show_nested`, `uncertain_regions`, `decide`; `review_segmentation(segmentation, probabilities)` for
the user's own data. Works in the Slicer application and, without a screen, on `slicer-core`;
`python -m RTUncertaintyLib.headless RESULT --output scene.mrb` writes a scene file.
"""

_HOMES = {
    "Run": "runs.run", "RunNodes": "runs.run", "find_runs": "runs.run", "run_nodes": "runs.run",
    "load_result": "runs.load",
    "OVERLAYS": "runs.overlays",
    "show_result": "runs.show", "show_overlay": "runs.show", "set_overlay_threshold": "runs.show", "overlay_threshold": "runs.show",
    "shown_overlay": "runs.show",
    "remove_run": "runs.removal", "watch_scene": "runs.removal",
    "write_scene": "headless.scene_bundle",
    "PropagationNodes": "runs.propagation.nodes",
    "load_propagation": "runs.propagation.load",
    "show_propagation": "runs.propagation.show", "show_blend": "runs.propagation.show", "blend_images": "runs.propagation.show",
    "contour_sets": "runs.propagation.show", "show_contours": "runs.propagation.show", "contours_visible": "runs.propagation.show",
    "jump_to_structure": "runs.propagation.show",
    "accept_structures": "runs.propagation.accept", "accepted_paths": "runs.propagation.accept",
    "apply_deformation": "runs.propagation.transform", "undo_deformation": "runs.propagation.transform",
    "deformed_nodes": "runs.propagation.transform", "reason_not_to_move": "runs.propagation.transform",
    "show_run": "review.show", "show_run_overlay": "review.show", "adopt_input": "review.show",
    "OwnNodes": "runs.own", "review_segmentation": "runs.own", "match_probabilities": "runs.own",
    "uncertain_point": "review.views.places", "review_structure": "review.views.places", "highlight": "review.views.places", "jump_to": "review.views.places",
    "show_nested": "review.views.nested", "hide_nested": "review.views.nested", "nested_structure": "review.views.nested",
    "add_dvh": "review.dose.nodes", "read_dvh": "review.dose.nodes", "show_in_chart": "review.dose.nodes",
    "show_chart": "review.views.plots",
    "Region": "review.views.regions", "uncertain_regions": "review.views.regions",
    "decide": "review.decisions", "undo_decision": "review.decisions", "decided": "review.decisions",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    """The public names, imported when they are asked for: `python -m` can then say what is missing in one line."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"RTUncertaintyLib.{_HOMES[name]}"), name)
