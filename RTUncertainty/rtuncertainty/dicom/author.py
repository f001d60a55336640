"""What every object carries: the patient and study of the reference series, who made it, and that it is not for
clinical use.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import uuid
from dataclasses import dataclass, field

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

import rtuncertainty
from rtuncertainty.core.errors import InputError

from . import files
from .series import Series

WARNING = "NOT FOR CLINICAL USE"
MANUFACTURER = "RTUncertainty"
# modules Patient, Clinical Trial Subject and Study, General Study, Patient Study: type 2, which must be there, and
# others
PATIENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
MORE = (
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "OtherPatientIDs",
    "PatientBirthTime",
    "EthnicGroup",
    "PatientComments",
    "PatientSpeciesDescription",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "LongitudinalTemporalInformationModified",
)
_ROOT = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_NAMES = uuid.UUID("5b0f5bd8-7c0e-5d0f-9d6c-2f7c3d0f5c11")


@dataclass
class Author:
    """Who makes the objects of one export, with new UIDs.

    UIDs are random, below 2.25 (PS3.5, B.2) or below `prefix`.

    Attributes:
        model, version: of the model.
        prefix: of the UIDs.
        seed: UIDs follow from it alone: the same seed gives the same UIDs, so it must name the patient, the result and
            the run. None: random ones.
        time: of the export.

    Raises:
        InputError: a prefix that is none.
    """

    model: str
    version: str
    prefix: str = "2.25"
    seed: str | None = None
    time: datetime.datetime = field(default_factory=datetime.datetime.now)

    def __post_init__(self):
        if not _ROOT.fullmatch(self.prefix) or len(self.prefix) > 24:
            raise InputError(
                f"'{self.prefix}' is no prefix of UIDs: numbers with dots between, of at most 24 characters."
            )
        self._count = 0

    def uid(self) -> UID:
        """A new UID."""
        self._count += 1
        number = uuid.uuid4() if self.seed is None else uuid.uuid5(_NAMES, f"{self.seed}\n{self._count}")
        return UID(f"{self.prefix}.{number.int}"[:64])

    @property
    def name(self) -> str:
        """Model and version in one line."""
        return f"{self.model} {self.version}"

    @property
    def sentence(self) -> str:
        """For elements of any length."""
        return f"Made by model {self.name} of {MANUFACTURER} {rtuncertainty.__version__}. {WARNING}."

    def titled(self, what: str, length: int = 64) -> str:
        """A title with the model and the warning in one line; where it is too long, the model's name gives way.

        Args:
            what: the object is.
            length: the most characters.

        Returns:
            The title.
        """
        room = length - len(f"{what} () {WARNING}")
        name = self.name if len(self.name) <= room else self.name[: max(room - 2, 0)] + ".."
        return f"{what} ({name}) {WARNING}" if room > 4 else f"{what[: length - len(WARNING) - 1]} {WARNING}"

    def begin(
        self, series: Series, sop_class: UID, modality: str, what: str, number: int, syntax=ExplicitVRLittleEndian
    ) -> Dataset:
        """A dataset of a new series in the study of another, with all that is common to our objects.

        Args:
            series: the reference.
            sop_class: of the object.
            modality: of DICOM.
            what: it is, in the description of the series.
            number: of the series.
            syntax: of the transfer.

        Returns:
            Without the object's own elements.
        """
        made, first = Dataset(), series.first
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = syntax
        made.SpecificCharacterSet = "ISO_IR 192"
        copy_patient(first, made)
        made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID = sop_class, self.uid(), first.StudyInstanceUID
        made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = self.uid(), number, 1
        made.Modality, made.SeriesDescription, made.OperatorsName = modality, self.titled(what), ""
        made.InstanceCreationDate = made.SeriesDate = made.ContentDate = self.time.strftime("%Y%m%d")
        made.InstanceCreationTime = made.SeriesTime = made.ContentTime = self.time.strftime("%H%M%S")
        made.Manufacturer, made.ManufacturerModelName, made.DeviceSerialNumber = MANUFACTURER, self.model[:64], "none"
        made.SoftwareVersions = [f"{MANUFACTURER} {rtuncertainty.__version__}", f"model {self.version}"[:64]]
        made.FrameOfReferenceUID = first.FrameOfReferenceUID
        made.PositionReferenceIndicator = files.value(first, "PositionReferenceIndicator")
        return made


def copy_patient(source: Dataset, made: Dataset) -> None:
    """Copies the elements of the patient and the study, as text: the character sets of the two may differ.

    Args:
        source: read from.
        made: written to.
    """
    for keyword in (*PATIENT, *MORE):
        found = files.value(source, keyword)
        if found != "" or keyword in PATIENT:
            # what is no valid value, such as a weight with a comma, cannot be copied
            with files.quiet(), contextlib.suppress(Exception):
                setattr(made, keyword, [str(v) for v in found] if isinstance(found, MultiValue) else str(found))


def reference(header: Dataset) -> Dataset:
    """A reference to one image."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def code(scheme: str, value: str, meaning: str) -> Dataset:
    """An item of a code sequence.

    Args:
        scheme: coding scheme designator.
        value: code value.
        meaning: code meaning.

    Returns:
        The item, its texts cut to what DICOM allows.
    """
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value[:16], scheme[:16], meaning[:64]
    return item


def algorithm(author: Author) -> Dataset:
    """The item that identifies the model (Algorithm Identification Macro, PS3.3 10.16)."""
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = Sequence([code("DCM", "123110", "Artificial Intelligence")])
    item.AlgorithmName, item.AlgorithmVersion, item.AlgorithmSource = (
        author.model[:64],
        author.version[:64],
        f"{MANUFACTURER}, {WARNING}",
    )
    return item


def write(dataset: Dataset, path) -> None:
    """Writes a file of DICOM's format.

    Args:
        dataset: what is written.
        path: of the file.

    Raises:
        InputError: pydicom refuses a value.
        OSError: the disk does.
    """
    try:
        with files.quiet():
            dataset.save_as(path, enforce_file_format=True)
    except OSError:
        raise
    except Exception as error:
        raise InputError(
            f"{path.name} cannot be made: the reference series holds an element that DICOM does not allow "
            f"({type(error).__name__})."
        ) from None
