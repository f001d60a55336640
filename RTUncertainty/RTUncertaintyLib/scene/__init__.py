"""A result folder in the scene: loading, showing, finding again and removing a run.

`load_result(folder)` -> `RunNodes`; `show_result`, `show_overlay`, `set_overlay_threshold`; `find_runs`, `run_nodes`;
`remove_run`, `watch_scene`. Works in the Slicer application and, without a screen, on `slicer-core`;
`python -m RTUncertaintyLib.scene RESULT --output scene.mrb` writes a scene file.
"""

_HOMES = {
    "RunNodes": "nodes", "find_runs": "nodes", "run_nodes": "nodes",
    "load_result": "load",
    "OVERLAYS": "overlays",
    "show_result": "show", "show_overlay": "show", "set_overlay_threshold": "show", "overlay_threshold": "show",
    "shown_overlay": "show",
    "remove_run": "removal", "watch_scene": "removal",
    "write_scene": "bundle",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    """The public names, imported when they are asked for: `python -m` can then say what is missing in one line."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
