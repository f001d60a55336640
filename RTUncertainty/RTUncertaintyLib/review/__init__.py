"""Reviewing a run: its structures from the least certain on, regions, charts, DVHs, decisions, report and DICOM.

The functions of `HOMES` are imported when they are asked for; those of `runs` can be had here too.
"""

from __future__ import annotations

HOMES = {
    "show_run": "show",
    "show_run_overlay": "show",
    "adopt_input": "show",
    "uncertain_point": "views.places",
    "review_structure": "views.places",
    "highlight": "views.places",
    "zoom_to": "views.places",
    "jump_to": "views.places",
    "show_nested": "views.nested",
    "hide_nested": "views.nested",
    "nested_structure": "views.nested",
    "show_chart": "views.plots",
    "Region": "views.regions",
    "uncertain_regions": "views.regions",
    "add_dvh": "dose.nodes",
    "read_dvh": "dose.nodes",
    "show_in_chart": "dose.nodes",
    "decide": "decisions",
    "undo_decision": "decisions",
    "settle_edits": "editor",
    "groups": "triage",
    "decided": "decisions",
}
"""Public name -> the module of this package that holds it."""


def __getattr__(name: str):
    from importlib import import_module

    if name in HOMES:
        return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    from .. import runs

    if name in runs.HOMES:
        return getattr(runs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
