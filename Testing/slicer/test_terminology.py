"""The terminology entries of the structures, as Slicer's own reader of them understands them."""

import pytest
import slicer

from rtuncertainty.core.segmentation_file import ANATOMICAL_STRUCTURE, terminology

HEAD = {"scheme": "SCT", "value": "2812003", "meaning": "Head of femur"}
LEFT = {"scheme": "SCT", "value": "7771000", "meaning": "Left"}
TISSUE = {"scheme": "SCT", "value": "85756007", "meaning": "Tissue"}


def read(code):
    entry = slicer.vtkSlicerTerminologyEntry()
    assert slicer.vtkSlicerTerminologiesModuleLogic().DeserializeTerminologyEntry(terminology(code), entry)
    return [
        (o.GetCodingSchemeDesignator(), o.GetCodeValue(), o.GetCodeMeaning())
        for o in (entry.GetCategoryObject(), entry.GetTypeObject(), entry.GetTypeModifierObject())
    ]


@pytest.mark.parametrize(
    "extra, category, modifier",
    [
        ({}, ANATOMICAL_STRUCTURE, None),
        ({"modifier": LEFT}, ANATOMICAL_STRUCTURE, LEFT),
        ({"category": TISSUE}, TISSUE, None),
    ],
)
def test_slicer_reads_category_type_and_side(extra, category, modifier):
    found = read(HEAD | extra)
    assert found[:2] == [tuple(category.values()), tuple(HEAD.values())]
    assert [v or None for v in found[2]] == list(modifier.values() if modifier else (None,) * 3)


def test_a_structure_without_a_code_has_no_entry():
    assert terminology(None) == ""
