"""A digital male pelvis: a T2-like MR, its true CT, the CT of another visit, and the true structures, from a seed.

Not a patient and not a copy of one: sizes, shapes, fillings and tissues are drawn. HU are no function of the MR signal:
the density of spongy bone, the contents of the bowel and each tissue's level differ in ways that only one modality
shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..core.errors import InputError
from . import pelvis_bones as bony
from . import pelvis_organs as inner
from . import pelvis_soft as soft
from . import pelvis_visit as second
from .fields import Fields
from .images import as_image, empty_grid, log_bias, rician, with_ct_noise
from .limb_anatomy import Canvas, inside
from .pelvis_patient import Patient, Space

LABELS = {
    "background": 0,
    "bone": 1,
    "femoral_head_left": 2,
    "femoral_head_right": 3,
    "prostate": 4,
    "rectum": 5,
    "bladder": 6,
}
HEADS_BELOW_MIDDLE = 35.0  # mm from the middle of the image down to the femoral heads
AROUND = (16.0, 16.0, 20.0)  # mm drawn beyond the MR, which a CT of another position may show


@dataclass
class DigitalPelvis:
    """A digital pelvis; all but `ct_as_scanned` lie on the MR's grid.

    Attributes:
        mr: int16, noise and bias field in it.
        ct: int16, HU, the truth with a CT's noise.
        labels: uint8, see `LABELS`.
        ct_as_scanned: int16, HU, the CT of another visit on its own grid, with the couch, another position and
            fillings.
        displacement: vector float32, mm: a point of the MR plus its displacement is the same tissue in `ct_as_scanned`,
            so `sitk.Resample(ct_as_scanned, mr, sitk.DisplacementFieldTransform(...))` undoes what moved.
        rigid: the rigid part of it, which bones follow.
        refilled: uint8, 1 where gas and stool were replaced, which no transform undoes.
        mr_noise_free: float32, neither noise nor bias field.
        ct_noise_free: float32, HU.
        bias_field: float32, factor.
        facts: what was drawn: volumes in ml, lengths in mm.
        seed: of the pelvis.
    """

    mr: sitk.Image
    ct: sitk.Image
    labels: sitk.Image
    ct_as_scanned: sitk.Image
    displacement: sitk.Image
    rigid: sitk.Euler3DTransform
    refilled: sitk.Image
    mr_noise_free: sitk.Image
    ct_noise_free: sitk.Image
    bias_field: sitk.Image
    facts: dict
    seed: int

    def write(self, folder, misregistered: bool = True) -> Path:
        """Writes mr, ct and labels as .nii.gz.

        Args:
            folder: made if absent.
            misregistered: the CT as scanned; otherwise the truth on the MR's grid.

        Returns:
            The folder.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        images = {"mr": self.mr, "ct": self.ct_as_scanned if misregistered else self.ct, "labels": self.labels}
        for name, image in images.items():
            sitk.WriteImage(image, str(folder / f"{name}.nii.gz"), useCompression=True)
        return folder


def digital_pelvis(
    seed: int = 0,
    size=(192, 128, 48),
    spacing=(2.0, 2.0, 4.0),
    noise: float = 0.02,
    bias: float = 0.3,
    ct_noise: float = 12.0,
) -> DigitalPelvis:
    """A man's pelvis from the iliac crests to the lesser trochanters, with axial slices; x runs to his left.

    Args:
        seed: the same seed gives the same man and the same visits; other seeds other ones.
        size: voxels, (x, y, z). The pelvis keeps its size: a small field of view cuts it.
        spacing: mm, (x, y, z).
        noise: SD of the noise in the MR's real and imaginary channels as a share of the signal of fat. 0 for none.
        bias: largest absolute logarithm of the MR's smooth multiplicative field; 0.3 is about ±30 %. 0 for none.
        ct_noise: SD of both CTs' noise in HU. 0 for none.

    Returns:
        MR, CT, the CT of another visit, and the truth.

    Raises:
        InputError: a field of view below 240 x 160 x 100 mm or voxels above 6 x 6 x 10 mm.
    """
    size, spacing = [int(n) for n in size], [float(s) for s in spacing]
    limits = zip(size, spacing, (240, 160, 100), (6, 6, 10))
    if len(size) != 3 or len(spacing) != 3 or any(n * s < least or not 0 < s <= most for n, s, least, most in limits):
        raise InputError(
            f"digital pelvis: a grid of {size} voxels of {spacing} mm does not show a pelvis; "
            "give at least 240 x 160 x 100 mm with voxels of at most 6 x 6 x 10 mm."
        )
    rng = np.random.default_rng(seed)
    patient = Patient.draw(rng)
    visit = second.Visit.draw(patient)
    drawing = _Drawing(patient, visit, size, spacing)
    grid = empty_grid(size, spacing, name="digital pelvis")

    # in-plane point spread; slices are averages over their thickness
    mr, ct = (
        ndimage.gaussian_filter(drawing.on_mr_grid(a), (0, 0.4, 0.4), mode="nearest")
        for a in (drawing.canvas.mr, drawing.canvas.ct)
    )
    clean = np.maximum(mr, 0) * np.float32(rng.uniform(0.7, 1.3))
    fields = Fields(rng, size[::-1], spacing)
    log_field = log_bias(fields, size, bias)
    signal = rician(clean * np.exp(log_field), fields, noise * patient.tissues["fat"][0])
    noisy = with_ct_noise(ct, fields, ct_noise)

    rigid = second.rigid(visit, (0.0, 0.0, 0.0))
    scanned = _scan(drawing, rigid, rng, ct_noise)
    facts = {
        "prostate_ml": patient.prostate_ml,
        "bladder_ml": patient.bladder_ml,
        "bladder_ml_at_ct": visit.bladder_ml,
        "rectum_radius": patient.rectum_radius,
        "head_radius": patient.head_radius * patient.size,
        "build": patient.build,
        "spongy_hu": patient.density,
        "marrow_fat": patient.marrow_fat,
    }
    return DigitalPelvis(
        mr=as_image(signal, grid, np.int16),
        ct=as_image(noisy, grid, np.int16),
        labels=as_image(drawing.labels(), grid, np.uint8),
        ct_as_scanned=scanned,
        displacement=_displacement(drawing, rigid, grid),
        rigid=rigid,
        refilled=as_image(drawing.on_mr_grid(drawing.refilled.astype(np.float32)) > 0, grid, np.uint8),
        mr_noise_free=as_image(clean, grid, np.float32),
        ct_noise_free=as_image(ct, grid, np.float32),
        bias_field=as_image(np.exp(log_field), grid, np.float32),
        facts={k: float(v) for k, v in facts.items()},
        seed=int(seed),
    )


class _Drawing:
    """The pelvis painted on a grid finer than the MR's slices and wider than its field of view."""

    def __init__(self, patient: Patient, visit, size, spacing):
        self.parts = max(1, round(spacing[2] / 2.0))  # of a slice
        self.spacing = (spacing[0], spacing[1], spacing[2] / self.parts)
        self.pad = [int(np.ceil(a / s)) for a, s in zip(AROUND, spacing)]
        self.pad[2] *= self.parts
        inner_size = (size[0], size[1], size[2] * self.parts)
        self.size = [n + 2 * p for n, p in zip(inner_size, self.pad)]
        fields = Fields(patient.rng, self.size[::-1], self.spacing)
        axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(self.size, self.spacing)]
        self.first = [float(a[0]) for a in axes]
        front, back = soft.extent(patient)
        place = (
            patient.rng.uniform(-4, 4),
            (front + back) / 2 * patient.size,
            HEADS_BELOW_MIDDLE + patient.rng.uniform(-4, 4),
        )
        self.space = Space.of(patient, fields, *(a + p for a, p in zip(axes, place)))
        self._paint(patient, visit, fields)

    def _paint(self, patient: Patient, visit, fields: Fields) -> None:
        space = self.space
        textures = {
            "coarse": fields.smooth(28, 30),
            "middle": fields.smooth(9, 10),
            "fine": fields.smooth(4.5, 6),
            "shape": fields.smooth(13, 15),
            "ct_coarse": fields.smooth(20, 22),
            "ct_fine": fields.smooth(4, 6),
        }
        self.canvas = Canvas(space.x.shape, patient.tissues)
        body = soft.outline(patient, space, fields)
        muscle = soft.muscles(space, textures)
        soft.paint(patient, space, self.canvas, body, muscle, textures, fields)
        bones = bony.build(patient, space)
        bone = bony.distance_to(bones, space.x.shape)
        organs = inner.build(
            patient, space, textures, bone, muscle[0], body.fascia, float(np.prod(self.spacing)) / 1000
        )
        lumen = soft.bowel(space, self.canvas, self._abdomen(body, muscle[0], bone, organs, textures), fields)
        self.shares = inner.paint(patient, space, self.canvas, organs, textures)
        self.shares |= bony.paint(patient, space, self.canvas, bones, textures)
        later = Canvas(space.x.shape, patient.tissues)
        later.mr[...], later.ct[...] = self.canvas.mr, self.canvas.ct
        gas = [
            np.maximum(
                soft.fill_bowel(patient, canvas, lumen, fields),
                inner.fill_rectum(patient, space, canvas, organs, fields),
            )
            for canvas in (self.canvas, later)
        ]
        self.refilled = np.abs(gas[0] - gas[1]) > 0.02
        self.later = later.ct
        self.movement = second.movement(patient, visit, space, organs, bone, fields)

    def _abdomen(self, body, muscle, bone, organs, textures) -> np.ndarray:
        """Share of every voxel in which bowel may lie: above the organs, within the walls."""
        space = self.space
        room = np.minimum(np.minimum(muscle - 3, bone - 5), -body.fascia - 17)
        taken = np.minimum(np.minimum(organs.rectum, organs.bladder), np.minimum(organs.prostate, organs.vesicles))
        room[organs.box] = np.minimum(room[organs.box], taken - 2.5)
        z = space.z
        front = np.interp(z, bony.SACRUM_Z, bony.SACRUM_FRONT).astype(np.float32)
        room = np.minimum(np.minimum(room, z - 24 + 12 * textures["shape"]), front - 8 - space.y)
        return inside(-room, space.edge)

    def on_mr_grid(self, array: np.ndarray) -> np.ndarray:
        """The mean over the parts of every slice of the MR; what lies around the MR is dropped."""
        px, py, pz = self.pad
        kept = array[pz : array.shape[0] - pz, py : array.shape[1] - py, px : array.shape[2] - px]
        return kept.reshape((-1, self.parts) + kept.shape[1:]).mean(1)

    def labels(self) -> np.ndarray:
        """The structure that fills more than half of a voxel, uint8."""
        labels = np.zeros([n - 2 * p for n, p in zip(self.size, self.pad)][::-1], np.uint8)[:: self.parts]
        for name in ("bladder", "rectum", "prostate", "bone", "femoral_head_left", "femoral_head_right"):
            labels[self.on_mr_grid(self.shares[name]) > 0.5] = LABELS[name]
        return labels

    def image(self, array: np.ndarray, step: int = 1) -> sitk.Image:
        """Every `step`-th voxel of an array on the drawing's grid (the last axis may hold vectors), as an image."""
        array = np.ascontiguousarray(array[::step, ::step, ::step])
        made = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
        made.SetSpacing([s * step for s in self.spacing])
        made.SetOrigin(self.first)
        return made


def _displacement(drawing: _Drawing, rigid: sitk.Euler3DTransform, grid: sitk.Image) -> sitk.Image:
    """R(x + u(x)) - x on the MR's grid."""
    u = np.stack([drawing.on_mr_grid(drawing.movement[..., c]) for c in range(3)], axis=-1)
    axes = [grid.GetOrigin()[a] + np.arange(grid.GetSize()[a]) * grid.GetSpacing()[a] for a in (2, 1, 0)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1)
    matrix = np.array(rigid.GetMatrix()).reshape(3, 3)
    moved = (points + u) @ matrix.T + np.array(rigid.GetTranslation())
    made = sitk.GetImageFromArray((moved - points).astype(np.float32), isVector=True)
    made.CopyInformation(grid)
    return made


def _scan(drawing: _Drawing, rigid: sitk.Euler3DTransform, rng, noise: float) -> sitk.Image:
    """The CT of the second visit on its own, somewhat finer grid, with the couch under the patient."""
    step = max(1, round(6.0 / drawing.spacing[0]))
    back = second.inverse(drawing.movement[::step, ::step, ::step], [s * step for s in drawing.spacing[::-1]])
    field = sitk.GetImageFromArray(back.astype(np.float64), isVector=True)
    field.SetSpacing([s * step for s in drawing.spacing])
    field.SetOrigin(drawing.first)
    to_mr = sitk.CompositeTransform([sitk.DisplacementFieldTransform(field), rigid.GetInverse()])

    extent = [(n - 2 * p) * s for n, p, s in zip(drawing.size, drawing.pad, drawing.spacing)]
    extent = [extent[0] + 24, extent[1] + 60, extent[2] + 16]
    spacing = [drawing.spacing[0] * 0.95, drawing.spacing[1] * 0.95, drawing.spacing[2] * drawing.parts * 0.75]
    size = [int(np.ceil(e / s)) for e, s in zip(extent, spacing)]
    origin = [-(n - 1) / 2 * s + rng.uniform(-0.5, 0.5) * s for n, s in zip(size, spacing)]
    origin[1] += 14  # more is seen of what is below the patient
    grid = empty_grid(size, spacing, origin=origin, name="digital pelvis")
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(grid)
    resampler.SetTransform(to_mr)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetUseNearestNeighborExtrapolator(True)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    ct = sitk.GetArrayFromImage(resampler.Execute(drawing.image(drawing.later)))
    _couch(ct, spacing)
    ct = with_ct_noise(ct, Fields(rng, size[::-1], spacing), noise)
    return as_image(ct, grid, np.int16)


def _couch(ct: np.ndarray, spacing) -> None:
    """A flat carbon couch with a foam core, in place, in the air right below the patient."""
    rows = np.flatnonzero((ct > -400).sum((0, 2)) > 0.02 * ct.shape[0] * ct.shape[2])
    y = (np.arange(ct.shape[1]) - rows.max() - 1)[None, :, None] * spacing[1]
    x = (np.arange(ct.shape[2]) - (ct.shape[2] - 1) / 2)[None, None] * spacing[0]
    distance = np.maximum(np.abs(y - 22) - 20, np.abs(x) - 205) + np.zeros(ct.shape, np.float32)
    share = inside(distance, spacing[1]) * (ct < -800)
    shell = share * inside(-(distance + 2.5), spacing[1])
    ct += share * (-955 - ct)
    ct += shell * (-420 - ct)
