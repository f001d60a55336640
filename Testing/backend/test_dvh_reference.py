"""DVHs of a prostate plan on a phantom against the tables that Eclipse, CERR and SlicerRT printed for it.

The contours are read from the .vtp files as they were drawn; the backend gets them as arrays. Ours and Eclipse's differ
in one thing that
shows: how far a structure goes on beyond its end planes. Volumes tell that Eclipse lets it go on by a quarter of the
planes' distance, and we, as masks do, by a half; where the dose falls steeply across an end (Rectum, by some Gy a mm)
D98 follows, and the systems differ by 3 Gy.
"""

import csv
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from rtuncertainty.dose import dose_image, dvh
from rtuncertainty.dose.contours import ContourRegion

DATA = Path(os.environ.get("RTU_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "dvh_reference"
# in the order of the files; the tables write them without underscores
STRUCTURES = ("BODY", "Bladder", "Femoral_Head_Lt", "Femoral_Head_RT", "PTV", "Rectum")
COMPARED = STRUCTURES[1:]


@pytest.fixture(scope="module", autouse=True)
def there():
    if not DATA.is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"{DATA} is not there: set RTU_DATA to the folder with the data sets")


@cache
def polygons(name):
    """The closed contours of a structure, [n, 3] each, in LPS."""
    vtk = pytest.importorskip("vtk")
    from vtk.util.numpy_support import vtk_to_numpy

    reader = vtk.vtkXMLPolyDataReader()
    reader.SetFileName(
        str(DATA / "EclipseProstate_Structures.seg" / f"EclipseProstate_Structures.seg_{STRUCTURES.index(name)}.vtp")
    )
    reader.Update()
    data = reader.GetOutput()
    assert data.GetFieldData().GetAbstractArray("Segment_Name").GetValue(0).replace(" ", "_") == name
    points = vtk_to_numpy(data.GetPoints().GetData()) * [-1, -1, 1]
    cells, ids, found = data.GetLines(), vtk.vtkIdList(), []
    cells.InitTraversal()
    while cells.GetNextCell(ids):
        found.append(points[[ids.GetId(k) for k in range(ids.GetNumberOfIds())]])
    return tuple(found)


@cache
def printed(system):
    """{structure: (doses, percent of the volume, volume in ml)} as a system printed it."""
    with (DATA / f"EclipseProstate_DvhTable_{system}.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    found = {}
    for k, name in enumerate(STRUCTURES):
        pairs = np.array([[float(r[2 * k]), float(r[2 * k + 1])] for r in rows if len(r) > 2 * k + 1 and r[2 * k]])
        # one line of Eclipse's table (35.604 Gy) has a dose of 0.00035604
        pairs = pairs[pairs[:, 0] >= np.maximum.accumulate(pairs[:, 0])]
        found[name] = (pairs[:, 0], pairs[:, 1], float(head[2 * k + 1].split("of")[1].split("cc")[0]))
    return found


def numbers_of(doses, percent):
    """Dmean, D98, D50, D2 of a printed curve."""
    mean = float(np.sum((percent[1:] + percent[:-1]) / 2 * np.diff(doses)) / percent[0])
    return np.array([mean, *(np.interp(-v, -percent, doses) for v in (98, 50, 2))])


@cache
def ours(name, ends=1.0):
    """(Dmean, D98, D50, D2; volume in ml; the DVH)."""
    dose = dose_image.read(DATA / "EclipseProstate_Dose.nrrd", "Gy")
    found = dvh.of_region(dose, ContourRegion(polygons(name), name=name, ends=ends))
    return (
        np.array([float(found.mean()), *(float(found.dose_at_volume(v)) for v in (98, 50, 2))]),
        found.volume_ml,
        found,
    )


@pytest.mark.parametrize("name", COMPARED)
def test_against_eclipse(name):
    """Dmean and D50 within 0.1 Gy, D98 and D2 within 0.3 Gy; but for the rectum's D98, see below."""
    difference = np.abs(ours(name)[0] - numbers_of(*printed("Eclipse")[name][:2]))
    limits = np.array([0.1, np.inf if name == "Rectum" else 0.3, 0.1, 0.3])
    assert (difference < limits).all(), difference


@pytest.mark.parametrize("name", COMPARED)
def test_the_whole_curve(name):
    """Within 1 % of the volume at every dose, and with Eclipse's ends within half of one; CERR and SlicerRT are
    further away.
    """
    doses, percent, _ = printed("Eclipse")[name]
    mine, as_eclipse = (
        np.abs(ours(name, ends)[2].volume_at_dose(doses).numpy() - percent).max() for ends in (1.0, 0.5)
    )
    others = [np.abs(np.interp(doses, *printed(system)[name][:2]) - percent).max() for system in ("CERR", "SlicerRT")]
    assert mine < 1 and as_eclipse < 0.5 and mine < min(others)


def test_the_rectum_ends_where_the_dose_falls():
    """Its D98 is a matter of its last 1.25 mm: without an end 24.4 Gy, with half of one 22, with all of it 20;
    Eclipse's 23.2 lies between, and where the end is a quarter of what ours is, so does all the rest."""
    eclipse = numbers_of(*printed("Eclipse")["Rectum"][:2])
    d98 = {ends: ours("Rectum", ends)[0][1] for ends in (0.0, 0.25, 0.5, 1.0)}
    assert d98[1.0] < d98[0.5] < d98[0.25] < d98[0.0] and d98[0.0] - d98[1.0] > 4
    assert d98[0.5] < eclipse[1] < d98[0.0]
    assert (np.abs(ours("Rectum", 0.25)[0] - eclipse) < [0.1, 0.3, 0.1, 0.3]).all()
    others = [numbers_of(*printed(system)["Rectum"][:2])[1] for system in ("CERR", "SlicerRT")]
    assert max(others) - min(others) > 1 and d98[1.0] < max(others)


@pytest.mark.parametrize("name", COMPARED)
def test_volumes(name):
    """Half as far beyond the end planes as we do by default, all volumes are Eclipse's, which has one decimal; as
    far as we do, CERR's.
    """
    assert ours(name, 0.5)[1] == pytest.approx(printed("Eclipse")[name][2], abs=0.25)
    assert ours(name)[1] == pytest.approx(printed("CERR")[name][2], rel=0.003)
    assert abs(ours(name, 0.5)[1] / printed("SlicerRT")[name][2] - 1) < 0.005


@pytest.mark.parametrize("name", COMPARED)
def test_no_further_from_eclipse_than_others(name):
    eclipse = numbers_of(*printed("Eclipse")[name][:2])
    error = {system: np.abs(numbers_of(*printed(system)[name][:2]) - eclipse) for system in ("CERR", "SlicerRT")}
    mine = np.abs(ours(name)[0] - eclipse)
    keep = [0, 2, 3] if name == "Rectum" else [0, 1, 2, 3]
    assert mine[keep].max() <= max(e[keep].max() for e in error.values()) + 0.01


def test_the_body():
    """The largest structure; its contours end with the scan, so that the end planes count for 1 % of the volume."""
    numbers, volume, found = ours("BODY", 0.5)
    assert volume == pytest.approx(printed("Eclipse")["BODY"][2], rel=0.006)
    assert np.abs(numbers - numbers_of(*printed("Eclipse")["BODY"][:2])).max() < 0.7 and found.covered > 0.95


def test_masks_give_the_same_numbers(tmp_path):
    """The same contours as a mask of 1 mm pixels: what a label image or .seg.nrrd of them would give."""
    from rtuncertainty.dose.structure_region import MaskRegion

    dose = dose_image.read(DATA / "EclipseProstate_Dose.nrrd", "Gy")
    region = ContourRegion(polygons("Bladder"), name="Bladder")
    corners = region.box()
    fine = sitk.Image([int(n) for n in np.ceil(np.ptp(corners, axis=0) / [1, 1, 2.5]) + 2], sitk.sitkUInt8)
    fine.SetSpacing((1.0, 1.0, 2.5))
    # slices where the contours lie
    fine.SetOrigin([float(v) for v in corners.min(0) + [0, 0, 1.25]])
    mask = sitk.GetImageFromArray((region.fraction(fine) > 0.5).astype(np.uint8))
    mask.CopyInformation(fine)
    found = dvh.of_region(dose, MaskRegion(mask))
    numbers = np.array([float(found.mean()), *(float(found.dose_at_volume(v)) for v in (98, 50, 2))])
    assert np.abs(numbers - ours("Bladder")[0]).max() < 0.15 and found.volume_ml == pytest.approx(
        ours("Bladder")[1], rel=0.01
    )
