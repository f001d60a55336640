"""Photograph the panels off screen, of real runs, on the stand-ins for Slicer's widgets, as a line in each picture
says. `python Testing/gui/make_screenshots.py FOLDER cases` writes small cases for them into FOLDER: mr.nii.gz of a
digital limb; planning.nii.gz, structures.seg.nrrd and daily.nii.gz of a digital pelvis.

OUTPUT=folder keeps the result for make_review_screenshots.py. With DARK=1 in the dark style; SAMPLES=5 for few samples;
MODEL names another model than the first installed one.

`python Testing/gui/make_screenshots.py FOLDER [MR.nii.gz]`: RTPrediction with the first installed model that predicts,
on the MR or, without one, on the digital limb. The picture of an error asks for a GPU, and is left out where there is
one.

`python Testing/gui/make_screenshots.py FOLDER PLANNING.nii.gz STRUCTURES.seg.nrrd DAILY.nii.gz`: RTPropagation with the
first installed model that propagates.
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
from gui_support import photographs  # noqa: E402
from gui_support.volumes import add_volume  # noqa: E402

from RTUncertaintyLib.mrml.segmentation import add_segmentation  # noqa: E402
from RTUncertaintyLib.mrml.volumes import add_volume as add_image  # noqa: E402
from RTUncertaintyLib.prediction.digital_limb import load_digital_limb  # noqa: E402

PATIENCE, SAMPLES = 1800, int(os.environ.get("SAMPLES", "20"))  # seconds for a run


class Photographer:
    """A module's panel, and how to press Run and to save a picture."""

    def __init__(self, module, folder, size):
        self.module, self.folder = module, Path(folder)
        self.widget, self.host = load_module(ROOT / "RTUncertainty" / module / f"{module}.py")[1:]
        self.ui = self.widget.ui
        self.host.resize(*size)
        self.host.show()

    def photograph(self, name):
        process_events(seconds=0.15)
        photographs.panel(self.host, self.folder / f"{self.module}_{name}.png")

    def choose_model(self):
        """The model that MODEL names, else the first."""
        combo, wanted = self.ui.modelComboBox, os.environ.get("MODEL")
        folders = [Path(combo.itemData(i)).name for i in range(combo.count)]
        if wanted in folders:
            combo.currentIndex = folders.index(wanted)

    def run(self, until):
        self.ui.runButton.click()
        assert process_events(until, PATIENCE), self.ui.statusLabel.text

    def over(self):
        return not self.widget.panel.running

    def finish(self):
        assert process_events(self.over, PATIENCE), self.ui.statusLabel.text
        assert self.ui.statusLabel.text.startswith("Done"), self.ui.statusLabel.text


def prediction(folder, mr=None):
    import torch

    panel = Photographer("RTPrediction", folder, (photographs.WIDTH, 860))
    ui, photograph = panel.ui, panel.photograph
    panel.choose_model()
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
    ui.samplesSpinBox.value = SAMPLES
    ui.outputFolderEdit.currentPath = os.environ.get("OUTPUT", "")
    if not torch.cuda.is_available():
        ui.deviceComboBox.currentIndex = ui.deviceComboBox.findText("GPU (CUDA)")
        panel.run(panel.over)
        photograph("error")
        ui.deviceComboBox.currentIndex = 0
    ui.inputSelector.setCurrentNode(add_volume("Coarse", shape=(40, 80, 80), spacing=(3.0, 3.0, 8.0)))
    photograph("warning")
    ui.inputSelector.setCurrentNode(node)
    panel.run(lambda: ui.progressBar.value > 400)
    photograph("running")
    panel.finish()
    photograph("results")
    panel.widget.cleanup()


def propagation(folder, planning, structures, daily):
    panel = Photographer("RTPropagation", folder, (photographs.WIDTH, 900))
    panel.choose_model()
    ui, photograph, scene = panel.ui, panel.photograph, slicer.mrmlScene
    photograph("empty")
    scans = [
        add_image(scene, sitk.ReadImage(str(file)), name)
        for file, name in ((planning, "Planning CT"), (daily, "Daily CT"))
    ]
    ui.planningSelector.setCurrentNode(scans[0])
    ui.structuresSelector.setCurrentNode(
        add_segmentation(scene, Path(structures), [], "Planning structures", scans[0], surfaces=False)
    )
    ui.dailySelector.setCurrentNode(scans[1])
    photograph("idle")
    ui.settingsCollapsibleButton.collapsed = False
    photograph("settings")
    ui.settingsCollapsibleButton.collapsed = True
    ui.samplesSpinBox.value = SAMPLES
    ui.outputFolderEdit.currentPath = os.environ.get("OUTPUT", "")
    panel.run(lambda: ui.progressBar.value > 300 or panel.over())
    photograph("running")
    panel.finish()
    ui.inputsCollapsibleButton.collapsed = True
    photograph("results")
    ui.structuresTable.setCurrentCell(0, 0)
    ui.acceptButton.click()
    ui.overlayComboBox.currentIndex = 1
    photograph("accepted")
    panel.widget.cleanup()


def write_cases(folder: Path):
    """A coarse digital limb and a coarse digital pelvis with another day of it, which run in a minute."""
    from rtuncertainty.core import structure_set
    from rtuncertainty.phantoms.daily_anatomy import daily_scan
    from rtuncertainty.phantoms.limb import digital_limb
    from rtuncertainty.phantoms.pelvis import LABELS, digital_pelvis

    folder.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(digital_limb(0, size=(128, 128, 14), spacing=(1.25, 1.25, 4.0)).mr, str(folder / "mr.nii.gz"))
    pelvis = digital_pelvis(3, size=(96, 64, 32), spacing=(4.0, 4.0, 6.0))
    masks = {n: sitk.Equal(pelvis.labels, v) for n, v in LABELS.items() if n not in ("background", "bone")}
    sitk.WriteImage(pelvis.ct, str(folder / "planning.nii.gz"))
    sitk.WriteImage(daily_scan(pelvis.ct, masks, 3).ct, str(folder / "daily.nii.gz"))
    found = structure_set.as_segmentation(list(structure_set.read(masks).values()))
    sitk.WriteImage(found, str(folder / "structures.seg.nrrd"), True)


def main(folder, *files):
    if os.environ.get("DARK"):
        photographs.dark()
    if files == ("cases",):
        write_cases(Path(folder))
    elif len(files) == 3:
        propagation(folder, *files)
    else:
        prediction(folder, *files)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # VTK and Qt objects outlive the interpreter in no fixed order
