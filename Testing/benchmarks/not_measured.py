"""What lies beyond the field of view of limb MRs, by their CTs: is it found, and how far from the cut is tissue?

    python Testing/benchmarks/not_measured.py DATA/sts_t1_ct [CASE ...]

DATA/sts_t1_ct: folders with mr.nii.gz and ct.nii.gz on one grid, the MR 0 outside of its field of view. For each limb:
ml that `not_measured` finds, ml of tissue there by `edge.beyond_cut` and by the CT (above -300 HU, without the couch),
and ml of CT tissue in all of the MR's zeros; then the same where the air was made 0 as well. At the end the share of
tissue by distance from the cut (mm), beside `edge.beyond_cut`.
"""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from rtuncertainty.prediction import preprocess
from rtuncertainty.prediction.not_measured import cut, not_measured
from rtuncertainty.uncertainty import edge

EDGES = np.array([0, 3, 6, 10, 15, 20, 30, 40, 60, 80])


def main(folder: Path, cases: list[str]) -> None:
    tissue, voxels = np.zeros(len(EDGES) - 1), np.zeros(len(EDGES) - 1)
    for name in cases or sorted(p.parent.name for p in folder.glob("*/mr.nii.gz")):
        mr = sitk.ReadImage(str(folder / name / "mr.nii.gz"), sitk.sitkFloat32)
        array, spacing = sitk.GetArrayFromImage(mr), mr.GetSpacing()
        hu = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name / "ct.nii.gz")))
        ct, ml = ndimage.binary_opening(hu > -300, np.ones((1, 5, 5))), np.prod(spacing) / 1000
        body, line = sitk.GetArrayFromImage(preprocess.body_mask(mr)) > 0, f"{name}:"
        for values, what in ((array, "as it is"), (array * body, "air made 0")):
            measured = preprocess.field_of_view(values)
            beyond = not_measured(values, measured, body, spacing)
            told, known = edge.beyond_cut(body, beyond, spacing).sum() * ml, (beyond & ct).sum() * ml
            line += f" {what} {beyond.sum() * ml:.0f} ml beyond, tissue {told:.0f} (by CT {known:.0f}),"
            if values is array:
                line += f" CT in all zeros {(~measured & ct).sum() * ml:.0f};"
                if beyond.any():
                    d = ndimage.distance_transform_edt(~cut(body, beyond), sampling=spacing[::-1])
                    voxels += np.histogram(d[beyond], EDGES)[0]
                    tissue += np.histogram(d[beyond & ct], EDGES)[0]
        print(line.rstrip(","), flush=True)
    for low, high, share in zip(EDGES, EDGES[1:], tissue / np.maximum(voxels, 1)):
        law = edge.CUT_SHARE * np.exp(-(((low + high) / 2 / edge.CUT_MM) ** 2))
        print(f"{low:3} to {high:3} mm: {share:.3f} tissue, edge.beyond_cut {law:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
