"""RT Propagation in the application: a digital pelvis and another day of it, reviewed, edited, reported, saved and
opened.
"""

import sys
from pathlib import Path

import slicer

sys.path.append(str(Path(__file__).resolve().parent))

import application_case  # noqa: E402

MODEL = "pelvis-ct-propagation-phantom"


class DigitalPelvisTest(application_case.ApplicationCase):
    def test_from_run_to_scene_file(self):
        import SimpleITK as sitk

        from rtuncertainty.core import structure_set
        from rtuncertainty.phantoms.daily_anatomy import daily_scan
        from rtuncertainty.phantoms.pelvis import LABELS, digital_pelvis
        from RTUncertaintyLib.mrml.segmentation import add_segmentation
        from RTUncertaintyLib.mrml.volumes import add_volume
        from RTUncertaintyLib.propagation.logic import PropagationLogic

        pelvis = digital_pelvis(3, size=(96, 64, 32), spacing=(4.0, 4.0, 6.0))
        masks = {n: sitk.Equal(pelvis.labels, v) for n, v in LABELS.items() if n not in ("background", "bone")}
        day = daily_scan(pelvis.ct, masks, 3)
        scene, file = slicer.mrmlScene, self.folder / "structures.seg.nrrd"
        planning, daily = add_volume(scene, pelvis.ct, "Planning CT"), add_volume(scene, day.ct, "Daily CT")
        found = list(structure_set.read(masks).values())
        sitk.WriteImage(structure_set.as_segmentation(found), str(file), True)
        structures = add_segmentation(scene, file, [], "Planning structures", planning)
        slicer.util.selectModule("RTPropagation")
        logic = PropagationLogic()
        run = logic.propagate(planning, structures, daily, MODEL, samples=2, device="cpu", refine="off")
        self.assertIn("propagated", run.segmentations)
        self.session(run, "RTPropagation")
        logic.clean_up()
