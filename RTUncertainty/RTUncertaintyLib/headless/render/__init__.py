"""Pictures of a run, drawn off screen by Slicer's own slice and 3-D views.

`render_run(slicer_scene, run, output)` and `render_file(scene_or_result, output)`;
`python -m RTUncertaintyLib.headless.render SCENE_OR_RESULT --output picture.png`.
"""

_HOMES = {"render_run": "figure", "render_file": "figure"}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    """The public names, imported when they are asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
