"""Which type of run each job makes: loading a result of any job, and finding runs again in a scene that was saved
and opened; and who wants to know of a new run: one of the Python console shows in the panel that is open.
"""

from __future__ import annotations

from collections.abc import Callable

import slicer

from rtuncertainty.results import Result

from ..mrml import hierarchy
from ..mrml.attributes import RUN_ATTRIBUTE, nodes_by_class, role_of
from .load import load_result
from .own import OwnRun
from .prediction import PredictionRun
from .propagation.load import load_propagation
from .propagation.run import PropagationRun
from .run import Run

RUNS: dict[str, type[Run]] = {kind.job: kind for kind in (PredictionRun, PropagationRun, OwnRun)}
"""Job -> type of its runs."""


def load_run(folder, scene=None, input_file=None, probabilities: bool = True, most_samples: int | None = None) -> Run:
    """Load a result folder of any job; see `load_result` and `load_propagation`, whose errors it raises."""
    if Result.read(folder).job == PropagationRun.job:
        return load_propagation(folder, scene, input_file=input_file)
    return load_result(folder, scene, input_file=input_file, probabilities=probabilities, most_samples=most_samples)


def find_runs(scene=None) -> dict[str, str]:
    """The runs in a scene, of all jobs: identifier -> name, in the order in which they were loaded. One whose main
    image was deleted is none any more, whatever else is left of it."""
    scene = scene or slicer.mrmlScene
    roles = _roles(scene)
    runs = [
        _run(scene, run_id, roles.get(run_id, {}), *folder) for run_id, folder in hierarchy.run_folders(scene).items()
    ]
    return {run.run_id: run.name for run in runs if run is not None}


def run_nodes(run_id: str, scene=None) -> Run | None:
    """The run with this identifier that is in the scene already, of the type of its job; None when there is none."""
    scene = scene or slicer.mrmlScene
    folder = hierarchy.run_folders(scene).get(run_id)
    return _run(scene, run_id, _roles(scene).get(run_id, {}), *folder) if folder is not None else None


def _roles(scene) -> dict[str, dict]:
    """Run identifier -> role -> node, of all runs."""
    found: dict[str, dict] = {}
    for node in nodes_by_class(scene, "vtkMRMLNode"):
        if node.GetAttribute(RUN_ATTRIBUTE):
            found.setdefault(node.GetAttribute(RUN_ATTRIBUTE), {})[role_of(node)] = node
    return found


def _run(scene, run_id: str, nodes: dict, folder: int, job: str) -> Run | None:
    """The run of these nodes (by their roles), None when its main image is not among them."""
    kind = RUNS.get(job) or RUNS[_job_by_roles(nodes)]
    run = kind(scene, run_id, hierarchy.hierarchy_of(scene).GetItemName(folder), folder)
    for role, node in nodes.items():
        what, _, key = role.partition(".")
        if what in kind.single:
            setattr(run, what, node)
        elif what in kind.keyed:
            getattr(run, kind.keyed[what])[key] = node
    if run.main is None:
        return None
    for attribute, reference in kind.references.items():
        if getattr(run, attribute) is None:
            setattr(run, attribute, run.main.GetNodeReference(reference))
    return run


def _job_by_roles(nodes: dict) -> str:
    """The job of a run in a scene of a version that did not write it on the folder (see `JOB_ATTRIBUTE`)."""
    propagated = any(role in ("warped", "transform", "outlines") or role.startswith("segmentation.") for role in nodes)
    return PropagationRun.job if propagated else PredictionRun.job


_listeners: list[Callable] = []


def listen(listener: Callable) -> None:
    """Call `listener(run)` for every run that is put into the scene from now on."""
    if listener not in _listeners:
        _listeners.append(listener)


def forget(listener: Callable) -> None:
    """Call it no more."""
    if listener in _listeners:
        _listeners.remove(listener)


def announce(run) -> None:
    """A run was put into the scene."""
    for listener in list(_listeners):
        listener(run)
