"""A result folder in the scene: loading, showing, finding again and removing a run.

`load_result(folder)` -> `RunNodes`; `show_result`, `show_overlay`, `set_overlay_threshold`; `find_runs`, `run_nodes`;
`remove_run`, `watch_scene`. Of a propagation: `load_propagation(folder)` -> `PropagationNodes`; `show_propagation`,
`show_blend`, `show_contours`, `jump_to_structure`; `accept_structures`; `apply_deformation`, `undo_deformation`. Works in
the Slicer application and, without a screen, on `slicer-core`;
`python -m RTUncertaintyLib.scene RESULT --output scene.mrb` writes a scene file.
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
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    """The public names, imported when they are asked for: `python -m` can then say what is missing in one line."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
