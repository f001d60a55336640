"""Contours as they are really drawn: a square of 20 × 20 mm on five planes 3 mm apart has 6.0 ml, whatever was done to
it. See README.md.
"""

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from make_dicom import write_structure_set
from make_dose import grid, linear_dose

from rtuncertainty.core.errors import InputError
from rtuncertainty.dicom import structure_input
from rtuncertainty.dose import dvh, structures
from rtuncertainty.dose.job import dvh_to_files

FRAME = "1.2.826.0.1.3680043.10.999.1.2"
PLANES = [3.0 * k for k in range(5)]
ML = 6.0


def square(z, low=-10.0, high=10.0, x=0.0, y=0.0):
    """A square [4, 3] in the plane z."""
    return np.array([[x + low, y + low, z], [x + high, y + low, z], [x + high, y + high, z], [x + low, y + high, z]])


def scan(step=3.0, pixel=0.5, below=2, size=96):
    """The slices that the contours lie on, and some more: an empty image whose middle is the square's."""
    count = int(round(12 / step)) + 1 + 2 * below
    image = sitk.Image([size, size, count], sitk.sitkUInt8)
    image.SetSpacing([pixel, pixel, step])
    image.SetOrigin([-(size - 1) / 2 * pixel] * 2 + [-below * step])
    image.SetMetaData("frame_of_reference", FRAME)
    return image


def volumes(path, image=None):
    """({name: ml} by contours, {name: ml} by a mask on the scan, notes of both)."""
    image, told, also = scan() if image is None else image, [], []
    by_contour = {n: r.volume_ml for n, r in structures.read(path, told.append).items()}
    masks = structure_input.read(path, grid=image, tell=also.append, empty=True)
    ml = float(np.prod(image.GetSpacing())) / 1000
    return by_contour, {n: float(sitk.GetArrayViewFromImage(s.mask).sum()) * ml for n, s in masks.items()}, told, also


def keyhole(z):
    outer, inner = square(z), square(z, -4, 4)[::-1]
    return np.concatenate([outer, outer[:1], inner, inner[:1]])


def shifted(z, mm):
    return square(z) + [mm, mm / 2, 0]


# name: (contours, ml, a word of the note that there must be, or none)
CASES = {
    "as it is": ([square(z) for z in PLANES], ML, None),
    "one contour twice": ([square(z) for z in [*PLANES, 6.0]], ML, "twice"),
    "all contours twice": ([square(z) for z in PLANES * 2], ML, "twice"),
    "all contours three times": ([square(z) for z in PLANES * 3], ML, "twice"),
    "the second time reversed": ([c for z in PLANES for c in (square(z), square(z)[::-1])], ML, "twice"),
    "nearly twice": ([c for z in PLANES for c in (square(z), shifted(z, 0.05))], ML, None),
    "a little smaller inside": ([c for z in PLANES for c in (square(z), square(z, -9.8, 9.8))], ML, "twice"),
    "once around twice": ([np.concatenate([square(z), square(z)]) for z in PLANES], ML, None),
    "first point repeated": ([np.concatenate([square(z), square(z)[:1]]) for z in PLANES], ML, None),
    "two halves that touch": (
        [np.array([[x, -10, z], [x + 10, -10, z], [x + 10, 10, z], [x, 10, z]]) for z in PLANES for x in (-10, 0)],
        ML,
        None,
    ),
    "two pieces that overlap": (
        [np.array([[x, -10, z], [x + 12, -10, z], [x + 12, 10, z], [x, 10, z]]) for z in PLANES for x in (-10, -2)],
        ML,
        "overlap",
    ),
    "a hole": ([c for z in PLANES for c in (square(z), square(z, -4, 4))], ML - 0.96, "hole"),
    "a hole drawn the other way": ([c for z in PLANES for c in (square(z), square(z, -4, 4)[::-1])], ML - 0.96, "hole"),
    "a hole that comes twice": ([c for z in PLANES for c in (square(z), *[square(z, -4, 4)] * 2)], ML - 0.96, "hole"),
    "a keyhole": ([keyhole(z) for z in PLANES], ML - 0.96, None),
    "an island in a hole": (
        [c for z in PLANES for c in (square(z), square(z, -6, 6), square(z, -2, 2))],
        ML - 2.16 + 0.24,
        "hole",
    ),
    "a hole in two pieces that overlap": (
        [
            c
            for z in PLANES
            for c in (
                *(np.array([[x, -10, z], [x + 15, -10, z], [x + 15, 10, z], [x, 10, z]]) for x in (-10, -5)),
                square(z, -2, 2),
            )
        ],
        ML - 0.24,
        "overlap",
    ),
    "planes close together": ([square(z) for z in [*PLANES, 0.3, 0.12, 6.3]], ML, None),
    "each plane twice, a little apart": ([square(z + d) for z in PLANES for d in (0, 0.02)], ML, None),
    "a stray contour between planes": ([square(z) for z in [*PLANES, 4.2]], ML, None),
    "midway between slices": ([square(z + 1.5) for z in PLANES], ML, None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_square_has_its_volume(tmp_path, case):
    contours, ml, word = CASES[case]
    path = write_structure_set(tmp_path / "s.dcm", [("square", contours)], FRAME)
    by_contour, by_mask, told, also = volumes(path)
    assert by_contour["square"] == pytest.approx(ml, rel=0.011) and by_mask["square"] == pytest.approx(ml, rel=0.011)
    for notes in (told, also):
        assert word is None or any(word in n and "square" in n for n in notes), notes
        assert word is not None or not any("hole" in n or "overlap" in n for n in notes) or "nearly" in case, notes


def test_xor_contours_say_what_they_mean(tmp_path):
    pieces = [np.array([[x, -10, z], [x + 12, -10, z], [x + 12, 10, z], [x, 10, z]]) for z in PLANES for x in (-10, -2)]
    path = write_structure_set(tmp_path / "s.dcm", [("square", pieces, "CLOSEDPLANAR_XOR")], FRAME)
    by_contour, by_mask, told, _ = volumes(path)
    assert by_contour["square"] == pytest.approx(ML * 0.8) and by_mask["square"] == pytest.approx(ML * 0.8)
    assert not told


def test_missing_planes_are_open_and_told_by_both(tmp_path):
    path = write_structure_set(tmp_path / "s.dcm", [("square", [square(z) for z in (0, 3, 6, 15, 18, 21)])], FRAME)
    by_contour, by_mask, told, also = volumes(path, scan(below=6))
    assert by_contour["square"] == pytest.approx(7.2) == by_mask["square"]
    for notes in (told, also):
        assert any("1 gap of up to 9" in n for n in notes), notes


def test_a_plane_missing_of_four_and_one_of_three(tmp_path):
    for number, (heights, ml) in enumerate((((0, 3, 12), 3.6), ((0, 3, 6, 15), 4.8))):
        path = write_structure_set(tmp_path / f"{number}.dcm", [("square", [square(z) for z in heights])], FRAME)
        by_contour, by_mask, _, _ = volumes(path, scan(below=6))
        assert by_contour["square"] == pytest.approx(ml) == by_mask["square"]


def test_very_thin_slices(tmp_path):
    """A mouse: 2 × 2 mm on 21 planes of 0.1, 0.05 and 0.02 mm."""
    for step in (0.1, 0.05, 0.02):
        path = write_structure_set(
            tmp_path / f"{step}.dcm", [("square", [square(step * k, -1, 1) for k in range(21)])], FRAME
        )
        by_contour, by_mask, _, _ = volumes(path, _slices(scan(step, 0.05, 2, 60), 25))
        assert by_contour["square"] == pytest.approx(4 * 21 * step / 1000, rel=1e-3)
        assert by_mask["square"] == pytest.approx(4 * 21 * step / 1000, rel=1e-3)


def _slices(image, count):
    made = sitk.Image([*image.GetSize()[:2], count], sitk.sitkUInt8)
    made.SetSpacing(image.GetSpacing())
    made.SetOrigin(image.GetOrigin())
    return made


# ------------------------------------------------------------------ structures of one plane
def test_the_thickness_of_a_single_plane(tmp_path):
    image = sitk.Cast(_slices(scan(2.5), 9), sitk.sitkInt16)
    image[3, 3, 3] = 50
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    sitk.WriteImage(linear_dose(grid((20, 20, 20), (4, 4, 8), (-40, -40, -40)), at=100.0), str(tmp_path / "dose.nrrd"))

    def rows(rois, change=None, **options):
        path, told = write_structure_set(tmp_path / "s.dcm", rois, FRAME, change=change), []
        done, _ = dvh_to_files(tmp_path / "dose.nrrd", path, tmp_path / "o.csv", note=told.append, **options)
        with done.open(encoding="utf-8") as file:
            return {r["structure"]: float(r["volume_ml"] or "nan") for r in csv.DictReader(file)}, told

    def slab(d):
        d.ROIContourSequence[0].ContourSequence[0].ContourSlabThickness = 1.5

    alone, several = [("one", [square(6)])], [("one", [square(6)]), ("five", [square(z) for z in PLANES])]
    with pytest.raises(InputError, match="one plane only, and nothing tells"):
        rows(alone)
    found, told = rows(several)
    assert found["one"] == pytest.approx(1.2) and any("3 mm is the planes' distance" in n for n in told)
    found, told = rows(alone, slab)
    assert found["one"] == pytest.approx(0.6) and any("ContourSlabThickness" in n for n in told)
    found, told = rows(several, scan=tmp_path / "ct.nii.gz")
    assert found["one"] == pytest.approx(1.0) and any("2.5 mm is that of the scan's slices" in n for n in told)


# ------------------------------------------------------------------ names and numbers
def test_two_structures_with_one_number_are_refused(tmp_path):
    def same(d):
        for sequence, keyword in (
            (d.StructureSetROISequence, "ROINumber"),
            (d.ROIContourSequence, "ReferencedROINumber"),
        ):
            setattr(sequence[1], keyword, getattr(sequence[0], keyword))

    path = write_structure_set(
        tmp_path / "s.dcm", [("a", [square(z) for z in PLANES]), ("b", [square(z) for z in PLANES])], FRAME, change=same
    )
    for reader in (lambda: structures.read(path), lambda: structure_input.read(path, grid=scan())):
        with pytest.raises(InputError, match="s.dcm: gives two structures one ROINumber"):
            reader()


def test_names_stay_as_the_clinic_wrote_them(tmp_path):
    names = ["Bladder", "bladder", "BLADDER", "PTV, 56", "a/b", "a\\b", "Prostata-Größe", "  two   spaces ", "Ω"]
    path = write_structure_set(tmp_path / "s.dcm", [(n, [square(z) for z in PLANES]) for n in names], FRAME)
    wanted = [" ".join(n.split()) for n in names]
    assert list(structures.read(path)) == wanted == list(structure_input.read(path, grid=scan()))


# ------------------------------------------------------------------ 9: oblique, thin and tiny
@pytest.mark.parametrize("digits", [1, 2, 4])
def test_oblique_contours_with_rounded_coordinates(tmp_path, digits):
    angle = np.radians(17)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    at = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    ring = np.stack([10 * np.cos(at), 10 * np.sin(at), 0 * at], 1)
    drawn = [np.round((ring + [0, 0, z]) @ turn.T + [3.3, -7.7, 11.1], digits) for z in PLANES]
    path = write_structure_set(tmp_path / "s.dcm", [("disc", drawn)], FRAME)
    [region] = structures.read(path).values()
    assert not region.empty and region.volume_ml == pytest.approx(np.pi * 100 * 15 / 1000, rel=5e-3)


def test_a_structure_thinner_than_a_voxel_is_named_with_its_volume(tmp_path):
    image = scan(pixel=0.5)
    thin = [np.array([[0.05, -10, z], [0.2, -10, z], [0.2, 10, z], [0.05, 10, z]]) for z in PLANES]
    path = write_structure_set(tmp_path / "s.dcm", [("nerve", thin), ("square", [square(z) for z in PLANES])], FRAME)
    by_contour, by_mask, _, also = volumes(path, image)
    assert by_contour["nerve"] == pytest.approx(0.15 * 20 * 15 / 1000, rel=1e-3) and by_mask["nerve"] == 0
    assert any("nerve" in n and "thinner than a voxel" in n and "0.045 ml" in n for n in also), also


def test_outside_of_the_dose_is_said_only_where_it_is(tmp_path):
    dose = linear_dose(grid((20, 20, 20), (4, 4, 4), (-38, -38, -38)))
    for centre in (0.0, 1.3, 29.0):
        tiny = [square(z, -0.2, 0.2, centre) for z in (0.0, 0.3)]
        region = structures.ContourRegion(tiny)
        found = dvh.of_region(dose, region)
        assert found.covered == 1.0 and found.volume_ml == pytest.approx(0.4 * 0.4 * 0.6 / 1000)
    half = dvh.of_region(dose, structures.ContourRegion([square(z, x=40) for z in PLANES]))
    assert half.covered == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("size", [0.4, 1.0, 2.0])
def test_the_largest_dose_of_a_tiny_structure_lies_within_it(size):
    """In a gradient of 4 Gy/mm along each axis: the dose of its upper corner, to a twelfth of its size (4 Gy/mm ×
    3 axes × size / 12), where sub-voxels of a millimetre would be off by up to 6 Gy.
    """
    dose = linear_dose(grid((21, 21, 21), (3, 3, 3), (-30, -30, -30)), (4, 4, 4), 400)
    region = structures.ContourRegion([square(z, -size / 2, size / 2) for z in (0.0, size / 2)])
    found = dvh.of_region(dose, region)
    corner = 400 + 4 * (size / 2 + size / 2 + 3 * size / 4)
    lowest = 400 - 4 * (size / 2 + size / 2 + size / 4)
    assert corner - 4 * size / 4 <= float(found.dose[0]) <= corner + size
    assert lowest - size <= float(found.dose[-1]) <= lowest + 4 * size / 4


# ------------------------------------------------------------------ whatever happens to planes
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    order=st.permutations(range(5)),
    twice=st.lists(st.integers(0, 4), max_size=5),
    backwards=st.lists(st.integers(0, 4), max_size=3),
    start=st.integers(0, 3),
    split=st.lists(st.integers(0, 4), max_size=2),
    dropped=st.sampled_from([None, 0, 2, 4]),
)
def test_shuffled_planes_have_their_volume(tmp_path_factory, order, twice, backwards, start, split, dropped):
    contours = []
    for k in [*order, *twice]:
        if k == dropped:
            continue
        c = np.roll(square(PLANES[k]), start, 0)
        c = c[::-1] if k in backwards else c
        if k in split:  # two pieces that overlap a little
            contours += [np.clip(c, [-10, -10, -99], [1, 10, 99]), np.clip(c, [-1, -10, -99], [10, 10, 99])]
        else:
            contours.append(c)
    path = write_structure_set(tmp_path_factory.mktemp("c") / "s.dcm", [("square", contours)], FRAME)
    by_contour, by_mask, told, also = volumes(path)
    wanted = ML - (1.2 if dropped is not None else 0)
    assert by_contour["square"] == pytest.approx(wanted, rel=1e-3) == by_mask["square"]
    gap = dropped == 2
    assert any("gap" in n for n in told) == gap == any("gap" in n for n in also)
