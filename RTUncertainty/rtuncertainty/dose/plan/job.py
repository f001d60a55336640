"""A plan on a CT and on a synthetic CT, from files to a folder: what `rtuncertainty dose` runs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry, image_io
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.events import Progress
from rtuncertainty.dose import structures
from rtuncertainty.dose import table as dvh_table
from rtuncertainty.results import Result
from rtuncertainty.results.result import now, read_image, versions, write_summary

from . import calibrated, compare, patient
from . import plan as plans
from . import samples as members_of
from .delivery import Delivery, planned
from .density import SCHNEIDER, read_table

SHARES = {"read": 0.05, "plan": 0.25, "dose": 0.55, "compare": 0.10, "write": 0.05}
# what a target is called when nobody says, the first that is there
TARGETS = ("ptv", "ctv", "gtv", "target", "tumour", "tumor")
FORMAT = 1
# a band of fewer samples is not the one that was calibrated
FEWEST = 10


@dataclass
class SyntheticCT:
    """What `--synct` gave; None for what is not there.

    Attributes:
        image: HU.
        name: for messages.
        sd: predictive SD, HU.
        body: of the MR it was made from.
        card: of the model.
    """

    image: sitk.Image
    name: str
    sd: sitk.Image | None = None
    body: sitk.Image | None = None
    card: dict | None = None
    samples: list[Path] = field(default_factory=list)  # files of samples that were kept

    @property
    def model(self) -> str | None:
        """The model's name."""
        return self.card["name"] if self.card else None


def read_synct(path, tell=None) -> SyntheticCT:
    """A synthetic CT.

    Args:
        path: an image file, a DICOM folder, or a folder that predict wrote.
        tell: called with notes, lines of text.

    Returns:
        The image and what came with it.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = Path(path)
    if not (path / "summary.json").is_file():
        return SyntheticCT(image_io.read(path, tell=tell), str(path))
    result = Result.read(path)
    if not result.card.get("name"):
        raise InputError(f"{path}: its summary.json cannot be read as that of a model's result; run predict again.")
    if not result.has("synct"):
        raise InputError(f"{path} holds no synthetic CT; give a folder that predict wrote with a model that makes one.")
    sd, body = (result.image(key) if result.has(key) else None for key in ("predictive_sd", "body"))
    kept = [result.path("sample_synct", number) for number in result.of_structures("sample_synct")]
    return SyntheticCT(image_io.read(result.path("synct")), str(path), sd, body, result.card, kept)


def target_of(regions: dict, name: str | None) -> str:
    """The target among some structures.

    Args:
        regions: by name.
        name: the one wanted; None: the only structure, else the first that is called like a target.

    Returns:
        Its name.

    Raises:
        InputError: there is no such structure, or none is called like a target.
    """
    if name is not None:
        if name not in regions:
            raise InputError(f"there is no structure '{name}'; there are {', '.join(regions)}.")
        return name
    if len(regions) == 1:
        return next(iter(regions))
    for word in TARGETS:
        for found in regions:
            if found.lower().startswith(word):
                return found
    raise InputError(f"which structure is the target? Name it with --target; there are {', '.join(regions)}.")


def dose_to_folder(
    ct,
    structure_file,
    output,
    *,
    synct=None,
    plan=None,
    modality: str = plans.PHOTON,
    density=None,
    target: str | None = None,
    samples: int = 20,
    kept: bool = False,
    seed: int = 0,
    correlation_mm: float | None = None,
    device="cpu",
    page=None,
    progress: Progress | None = None,
) -> Path:
    """Makes a plan on a CT and computes its dose there, on a synthetic CT and on samples of it.

    Writes dose_ct.nii.gz, dvh_ct.csv (and its curves), plan.json, summary.json, and with a synthetic CT
    dose_synct.nii.gz, dvh_synct.csv (with bands), comparison.csv, gamma.nii.gz, with samples also dose_synct_lower and
    _upper.nii.gz (5 and 95 % of each voxel), and with `page` dvh.html. The folder appears whole or not at all.

    Args:
        ct: path of a file or DICOM folder.
        structure_file: path, see `rtuncertainty.dose.structures.read`.
        synct: path, see `read_synct`, or None.
        output: the folder.
        plan: path of a JSON file; None: the simple plan of `modality`.
        modality: photon or proton.
        density: path of a table (see `density.read_table`), or None.
        target: name of the structure to treat, see `target_of`.
        samples: members of the synthetic CT, none below 2 or where no SD is known.
        seed: of the members.
        correlation_mm: how far their errors are correlated; None: as measured on validation patients (see `samples`).
        device: of torch.
        kept: the samples that `synct` kept instead of drawn ones.
        page: makes the HTML page of a `compare.Comparison`, such as `rtuncertainty.report.dose_page.page`; None: no
            page.
        progress: takes the stages; its token cancels.

    Returns:
        The folder's absolute path.

    Raises:
        InputError: what cannot be read, planned or written.
        Cancelled: the user cancelled.
    """
    progress = progress or Progress(shares=SHARES)
    progress.stage("read", 0.0, "Reading the images")
    if samples < 0:
        raise InputError(f"samples is {samples}; give 2 or more for bands, or 0 for none.")
    if correlation_mm is not None and not correlation_mm >= 0:
        raise InputError(f"the correlation is {correlation_mm:g} mm; give 0 or more, or inf.")
    if synct is not None and Path(synct).resolve() == Path(output).resolve():
        raise InputError(
            f"{output} holds the synthetic CT, and writing there would replace that result; give another folder."
        )
    chosen = plans.read_plan(plan) if plan is not None else plans.DEFAULTS[modality]
    lookup = read_table(density) if density is not None else SCHNEIDER
    ct_image = image_io.read(ct, tell=progress.note)
    other = read_synct(synct, progress.note) if synct is not None else None
    if kept and (other is None or len(other.samples) < 2):
        raise InputError(
            f"{synct or '--kept-samples'}: holds no two samples that were kept; give the folder of predict "
            "--keep-samples as the synthetic CT, or leave --kept-samples out."
        )
    frame = ct_image.GetMetaData("frame_of_reference") if ct_image.HasMetaDataKey("frame_of_reference") else ""
    thickness = geometry.to_axial(ct_image).GetSpacing()[2]
    regions = structures.read(structure_file, progress.note, thickness, frame)
    name = target_of(regions, target)
    person = patient.of_images(
        ct_image, other and other.image, other and other.sd, other and other.body, str(ct), other.name if other else ""
    )
    with image_io.Staging(Path(output).absolute()) as staging:
        progress.stage("plan", 0.0, "Making the plan on the CT")
        delivery = planned(
            chosen,
            person,
            regions[name],
            lookup,
            device,
            lambda part: progress.stage("plan", part, "Fitting the spots"),
        )
        ct_dose = delivery.grid.dose_image(delivery.ct_dose)
        doses, found, calibration = None, None, None
        if other is not None:
            progress.stage("dose", 0.0, "Computing the dose on the synthetic CT")
            if person.sd is None and samples > 1 and not kept:
                progress.note(
                    "The synthetic CT comes without its standard deviation, so no samples of it and no bands: give the "
                    "folder that predict wrote."
                )
            members, number = iter(()), 0
            if kept:
                members, number = _kept(other.samples, person), len(other.samples)
            elif person.sd is not None and samples > 1:
                spacing, number = person.grid.GetSpacing(), samples
                members = members_of.field_members(person.synct, person.sd, spacing, samples, seed, correlation_mm)
            doses = _doses(delivery, members, number, progress)
            progress.stage("compare", 0.0, "Comparing the doses")
            found = compare.compare(ct_dose, doses[0], regions, chosen.prescription_gy, doses[1])
            # what was calibrated is the target's dose in the simple plan, with samples as they are drawn by default
            simple = plan is None and correlation_mm is None and not kept and len(doses[1]) >= FEWEST
            calibration = calibrated.of_card(other.card, chosen.modality) if simple else None
            for one in found.structures if calibration else ():
                if one.structure == name and one.lower:
                    one.calibrated = calibration.interval(one.lower, one.upper)
        progress.stage("write", 0.0, "Writing the results")
        rows = found.ct_rows if found else compare.rows_of(ct_dose, regions)
        for row in rows:
            if row.note:
                progress.note(f"{row.structure}: {row.note.rstrip('.')}.")
        files = _write(staging, ct_dose, doses, rows, found, delivery, page)
        used = len(doses[1]) if doses else 0
        summary = {
            "format": FORMAT,
            "job": "dose",
            "created": now(),
            "ct": Path(ct).name,
            "synct": Path(other.name).name if other else None,
            "model": other.model if other else None,
            "target": name,
            "modality": chosen.modality,
            "prescription_gy": chosen.prescription_gy,
            "fractions": chosen.fractions,
            "density": lookup.name,
            "engine": _engine(chosen),
            "grid_mm": chosen.grid_mm,
            "isocentre_mm": [round(float(v), 2) for v in delivery.grid.isocentre],
            "samples": {
                "number": used,
                "seed": seed,
                "correlation_mm": _correlation_text(correlation_mm),
                "band": [0.05, 0.95],
                "calibrated": asdict(calibration) if calibration else False,
                "how": "samples of the network that predict kept"
                if kept
                else "mean + predictive sd × smooth Gaussian field, in antithetic pairs; not the network's dropout "
                "samples",
            }
            if used
            else None,
            "gamma_pass_percent": {f"{p:g}%/{mm:g}mm": round(v, 2) for (p, mm), v in found.passed.items()}
            if found
            else None,
            "notes": progress.notes,
            "seconds": progress.seconds,
            "files": files,
            "versions": versions(),
        }
        progress.close()
        write_summary(summary, staging)
        progress.cancel.check()
        staging.commit()
    return Path(output).absolute()


def _correlation_text(correlation_mm: float | None) -> float | str:
    return "as measured" if correlation_mm is None else correlation_mm if math.isfinite(correlation_mm) else "infinite"


def _engine(chosen: plans.Plan) -> str:
    from importlib.metadata import version

    kind = (
        f"PencilDepthEngine, {chosen.machine}" if chosen.modality == plans.PHOTON else "IonDoseEngine, protons_doserad"
    )
    return f"pydosert {version('pydosert')} {kind}"


def _kept(files: list[Path], person: patient.Patient):
    """Yields the samples of these files on the patient's grid, [z, y, x] in HU."""
    for file in files:
        image = geometry.resample(read_image(file), person.grid, "linear", patient.AIR)
        yield sitk.GetArrayFromImage(image).astype(np.float32)


def _doses(delivery: Delivery, members, samples: int, progress: Progress):
    """(dose on the synthetic CT, doses on its members), images; `samples` is the number of members."""
    p, image = delivery.patient, delivery.grid.dose_image
    mean = image(delivery.dose(delivery.volume(p.synct)[None])[0])
    found = []
    for number, member in enumerate(members):
        progress.stage("dose", (number + 1) / (samples + 1), f"Computing the dose of sample {number + 1} of {samples}")
        found.append(image(delivery.dose(delivery.volume(member)[None])[0]))
    return mean, found


def _write(staging, ct_dose, doses, ct_rows, found, delivery: Delivery, page) -> dict:
    """Write all files but the summary; returns their names."""
    prescription = delivery.plan.prescription_gy
    files = {
        "dose_ct": "dose_ct.nii.gz",
        "plan": "plan.json",
        "dvh_ct": "dvh_ct.csv",
        "dvh_ct_curves": "dvh_ct_curves.csv",
    }
    staging.image(ct_dose, files["dose_ct"])
    staging.text(json.dumps(delivery.plan.as_dict(), indent=1), files["plan"])
    files["delivered"] = "delivered.json"
    staging.text(json.dumps(delivery.fields.as_dict()), files["delivered"])
    staging.text(dvh_table.metrics_table(ct_rows, prescription), files["dvh_ct"])
    staging.text(dvh_table.curves_table(ct_rows), files["dvh_ct_curves"])
    if found is None:
        return files
    files |= {
        "dose_synct": "dose_synct.nii.gz",
        "gamma": "gamma.nii.gz",
        "comparison": "comparison.csv",
        "dvh_synct": "dvh_synct.csv",
        "dvh_synct_curves": "dvh_synct_curves.csv",
    }
    staging.image(doses[0], files["dose_synct"])
    staging.image(found.gamma, files["gamma"])
    staging.text(compare.table(found), files["comparison"])
    staging.text(dvh_table.metrics_table(found.rows, prescription), files["dvh_synct"])
    staging.text(dvh_table.curves_table(found.rows), files["dvh_synct_curves"])
    if page is not None:
        files["dvh_chart"] = "dvh.html"
        staging.text(page(found), files["dvh_chart"])
    if doses[1]:
        all_of_them = np.stack([sitk.GetArrayViewFromImage(d) for d in doses[1]])
        for key, share in (("lower", 0.05), ("upper", 0.95)):
            files[f"dose_synct_{key}"] = f"dose_synct_{key}.nii.gz"
            staging.image(
                geometry.like(np.quantile(all_of_them, share, axis=0, method="hazen"), ct_dose),
                files[f"dose_synct_{key}"],
            )
    return files


def summary(folder) -> list[str]:
    """What a folder of `dose_to_folder` holds.

    Args:
        folder: its path.

    Returns:
        A few lines.

    Raises:
        InputError: it is no such folder.
    """
    result = Result.read(folder, "dose")
    known = result.summary
    lines = [
        f"{known['modality']} plan, {known['prescription_gy']:g} Gy to half of {known['target']}, {known['engine']}"
    ]
    return lines + (
        result.path("comparison").read_text(encoding="utf-8").splitlines() if result.has("comparison") else []
    )
