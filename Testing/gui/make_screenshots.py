"""Photograph the RTPrediction panel off screen: `python Testing/gui/make_screenshots.py FOLDER [MR.nii.gz]`.

Every picture is of a real run of the first installed model, on the MR or, without one, on the digital limb. The picture
of an error asks for a GPU, and is left out where there is one.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "RTUncertainty")]

from standins import install, load_module, process_events  # noqa: E402

slicer = install()

import SimpleITK as sitk  # noqa: E402
from gui_support.volumes import add_volume  # noqa: E402
from RTUncertaintyLib.digital_limb import load_digital_limb  # noqa: E402
from RTUncertaintyLib.scene.volumes import add_volume as add_image  # noqa: E402

PATIENCE = 1800  # seconds for a run


def main(folder, mr=None):
    import torch

    widget, host = load_module(ROOT / "RTUncertainty" / "RTPrediction" / "RTPrediction.py")[1:]
    ui = widget.ui
    host.resize(430, 860)
    host.show()

    def photograph(name):
        process_events(seconds=0.15)
        host.grab().save(str(Path(folder) / f"RTPrediction_{name}.png"))

    def run(until):
        ui.runButton.click()
        assert process_events(until, PATIENCE), ui.statusLabel.text

    photograph("empty")
    if mr:
        node = add_image(slicer.mrmlScene, sitk.ReadImage(str(mr)), Path(mr).resolve().parent.name)
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
    if not torch.cuda.is_available():
        ui.deviceComboBox.currentIndex = ui.deviceComboBox.findText("GPU (CUDA)")
        run(lambda: not widget.panel.running)
        photograph("error")
        ui.deviceComboBox.currentIndex = 0
    ui.inputSelector.setCurrentNode(add_volume("Coarse", shape=(40, 80, 80), spacing=(3.0, 3.0, 8.0)))
    photograph("warning")
    ui.inputSelector.setCurrentNode(node)
    run(lambda: ui.progressBar.value > 400)
    photograph("running")
    assert process_events(lambda: not widget.panel.running, PATIENCE), ui.statusLabel.text
    assert ui.statusLabel.text.startswith("Done"), ui.statusLabel.text
    photograph("results")
    widget.cleanup()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # VTK and Qt objects outlive the interpreter in no fixed order
