"""DICOM in and out: structure sets as input, results as RTSTRUCT, CT series, SEG and deformable registration objects.

It needs pydicom (and highdicom for SEG), and all else works without them: only `structure_input` is imported before a
DICOM structure set is given or `export` is asked for, and it asks for pydicom then.

Patients. What identifies a patient goes from the reference series into the DICOM files and nowhere else: no message,
note or error of this package holds a value of such an element, and pydicom's own messages, which can quote them, are
not passed on.

Everything that is written says NOT FOR CLINICAL USE and the model's name and version, wherever its kind of object has
room.
"""

from __future__ import annotations

from rtuncertainty.core import lazy

__all__, __getattr__, __dir__ = lazy.exports(
    __name__,
    {
        "read_structures": "rtstruct_read",
        "Series": "series",
        "read_series": "series",
        "Author": "author",
        "make_structure_set": "rtstruct_write",
        "make_ct_series": "ct",
        "make_registration": "registration",
        "make_segmentation": "segmentation",
        "export_result": "export",
        "summary": "export",
        "SHARES": "export",
        "WHAT": "export",
    },
)
