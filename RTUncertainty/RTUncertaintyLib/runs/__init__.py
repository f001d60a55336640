"""A result folder in the scene: loading, showing, finding again and removing a run.

`load_result(folder)` -> `RunNodes`; `show_result`, `show_overlay`, `set_overlay_threshold`; `find_runs`, `run_nodes`;
`remove_run`, `watch_scene`. Of a propagation: `load_propagation(folder)` -> `PropagationNodes`; `show_propagation`,
`show_blend`, `show_contours`, `jump_to_structure`; `accept_structures`; `apply_deformation`, `undo_deformation`. Review of any
run: `show_run`, `review_structure`, `show_nested`, `uncertain_regions`, `decide`; `review_segmentation(segmentation, probabilities)` for
the user's own data. Works in the Slicer application and, without a screen, on `slicer-core`;
`python -m RTUncertaintyLib.runs RESULT --output scene.mrb` writes a scene file.
"""

_HOMES = {
    "Run": "nodes", "RunNodes": "nodes", "find_runs": "nodes", "run_nodes": "nodes",
    "load_result": "load",
    "OVERLAYS": "overlays",
    "show_result": "show", "show_overlay": "show", "set_overlay_threshold": "show", "overlay_threshold": "show",
    "shown_overlay": "show",
    "remove_run": "removal", "watch_scene": "removal",
    "write_scene": "bundle",
    "PropagationNodes": "propagation_nodes",
    "load_propagation": "propagation_load",
    "show_propagation": "propagation_show", "show_blend": "propagation_show", "blend_images": "propagation_show",
    "contour_sets": "propagation_show", "show_contours": "propagation_show", "contours_visible": "propagation_show",
    "jump_to_structure": "propagation_show",
    "accept_structures": "propagation_accept", "accepted_paths": "propagation_accept",
    "apply_deformation": "propagation_transform", "undo_deformation": "propagation_transform",
    "deformed_nodes": "propagation_transform", "reason_not_to_move": "propagation_transform",
    "show_run": "review_show", "show_run_overlay": "review_show", "adopt_input": "review_show",
    "OwnNodes": "review_own", "review_segmentation": "review_own", "match_probabilities": "review_own",
    "uncertain_point": "review_places", "review_structure": "review_places", "highlight": "review_places", "jump_to": "review_places",
    "show_nested": "review_nested", "hide_nested": "review_nested", "nested_structure": "review_nested",
    "add_dvh": "review_dvh", "read_dvh": "review_dvh", "show_in_chart": "review_dvh",
    "show_chart": "review_plots",
    "Region": "review_regions", "uncertain_regions": "review_regions",
    "decide": "review_decisions", "undo_decision": "review_decisions", "decided": "review_decisions",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    """The public names, imported when they are asked for: `python -m` can then say what is missing in one line."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
