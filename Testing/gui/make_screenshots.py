"""Photograph the RTPrediction panel off screen: `python Testing/gui/make_screenshots.py FOLDER [MR.nii.gz]`.

With a model in Resources/Models the results are a real run's; without one they are the fake backend's, as are the
pictures of a run that goes on and of one that failed. Without an MR the digital limb is used.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "RTUncertainty")]

from standins import install, load_module, process_events  # noqa: E402

slicer = install()

import SimpleITK as sitk  # noqa: E402
from gui_support.cards import CARD  # noqa: E402
from gui_support.volumes import add_volume  # noqa: E402
from RTUncertaintyLib.backend_command import BackendCommand  # noqa: E402
from RTUncertaintyLib.digital_limb import load_digital_limb  # noqa: E402


class FakeCommand(BackendCommand):
    def environment(self):
        own = super().environment()
        return {**own, "PYTHONPATH": os.pathsep.join([str(HERE), own["PYTHONPATH"]])}


class TorchIsThere:
    def installed(self):
        return True


def main(folder, mr=None):
    os.environ["FAKE_BACKEND_PIDS"] = os.path.join(tempfile.mkdtemp(), "pids.txt")
    from rtbackend import bundle

    real = bool(bundle.list_bundles())
    if not real:
        models = Path(tempfile.mkdtemp())
        (models / CARD["name"]).mkdir()
        (models / CARD["name"] / "model.json").write_text(json.dumps(CARD), encoding="utf-8")
        bundle.search_path = lambda: [models]
    widget, host = load_module(ROOT / "RTUncertainty" / "RTPrediction" / "RTPrediction.py")[1:]
    session = ROOT / "RTUncertainty" / "RTUncertaintyLib" / "run_in_session.py"
    widget.logic._command = FakeCommand(sys.executable, (str(session), "gui_support.fake_backend"))
    widget.panel.torch = TorchIsThere()
    ui = widget.ui
    host.resize(430, 860)
    host.show()

    def photograph(name):
        process_events(seconds=0.15)
        host.grab().save(str(Path(folder) / f"RTPrediction_{name}.png"))

    def run(behaviour, until):
        os.environ["FAKE_BACKEND"] = behaviour
        ui.runButton.click()
        assert process_events(until, 900), behaviour

    photograph("empty")
    if mr:
        image = sitk.ReadImage(str(mr))
        node = add_volume(Path(mr).parent.name, array=sitk.GetArrayFromImage(image), spacing=image.GetSpacing())
    else:
        node = load_digital_limb()[0]
    ui.inputSelector.setCurrentNode(node)
    photograph("idle")
    ui.modelCardCollapsibleButton.collapsed = False
    photograph("card")
    ui.modelCardCollapsibleButton.collapsed = True
    ui.settingsCollapsibleButton.collapsed = False
    photograph("settings")
    ui.settingsCollapsibleButton.collapsed = True
    run("slow", lambda: ui.progressBar.value > 0)
    photograph("running")
    widget.panel.abort()
    run("out_of_memory", lambda: not widget.panel.running)
    photograph("error")
    ui.inputSelector.setCurrentNode(add_volume("Coarse", shape=(40, 80, 80), spacing=(3.0, 3.0, 8.0)))
    photograph("warning")
    ui.inputSelector.setCurrentNode(node)
    if real:
        widget.logic._command = None
    run("done", lambda: not widget.panel.running)
    photograph("results")
    widget.cleanup()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # VTK and Qt objects outlive the interpreter in no fixed order
