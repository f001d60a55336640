"""RT Review leads with what to do: one sentence, three groups with reasons, the rule with its measured record, and keys
that go through the structures.
"""

import dataclasses
import json
from pathlib import Path

import pytest
import slicer
from gui_support.review import click, column, folders, is_title, opened, review, row_of  # noqa: F401

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml.attributes import nodes_by_class
from RTUncertaintyLib.review import triage
from RTUncertaintyLib.review.table import STRUCTURE, WHY
from RTUncertaintyLib.runs.review_data import Flag, Interval, Quality, ReviewData, Structure

MODELS = Path(__file__).resolve().parents[2] / "Resources" / "Models"
FLAGS = {"caught": 10, "false_alarms": 8, "cases": 120, "patients": 30, "threshold": 0.5, "dice_limit": 0.85}


def card(missed):
    """A card whose rule put 102 contours under "probably fine", of which so many were off."""
    return {
        "name": "m",
        "outputs": {"structures": [{"name": "liver"}, {"name": "spleen"}]},
        "calibration": {"flags": {"surface_entropy": {**FLAGS, "missed": missed}}},
    }


def data(structures, of, job="predict", summary=None):
    return ReviewData("r", job, 0.9, tuple(structures), (), (), of, summary or {})


def structure(name, *flags, **more):
    return Structure(name, (1, 0, 0), 10.0, flags=tuple(Flag(name, *f) for f in flags), **more)


def test_the_record_of_a_rule():
    record = triage.record_of(card(4))
    assert (record.fine, record.off, record.patients) == (102, 4, 30)
    assert record.risk == pytest.approx(5 / 103) and record.bears
    assert not triage.record_of(card(15)).bears and triage.record_of(card(14)).bears  # 15 / 103 and 16 / 103
    assert triage.record_of({"calibration": {}}) is None
    two = card(4)
    two["calibration"]["flags"]["expected_dice"] = {**FLAGS, "missed": 20}
    assert triage.record_of(two).off == 20, "the weakest rule counts"


def test_the_groups_and_their_reasons():
    found = data(
        [
            structure("liver"),
            structure("spleen", ("warning", "unusual volume", "Larger than in any of 40 patients.")),
            structure("target"),
        ],
        card(4),
    )
    groups = triage.groups(found)
    assert {g: [s.name for s in of] for g, of in groups.items()} == {
        triage.LOOK: ["spleen"],
        triage.FINE: ["liver"],
        triage.UNCOVERED: ["target"],
    }
    assert triage.verdict(found.structures[1], found).reason == "larger than in any of 40 patients"
    assert triage.sentence(found) == "Look at 1 of 3 structures; 1 probably fine, 1 not covered by the model."
    assert "Of 102 validation contours of 30 patients that this rule put there, 4 were off (Dice below 0.85)" in (
        triage.rule_text(found)
    )


def test_a_record_that_does_not_bear_more_sends_all_to_look():
    found = data([structure("liver")], card(30))
    assert triage.verdict(found.structures[0], found) == triage.Verdict(
        triage.LOOK, "of 102 contours like it, 30 were off"
    )
    assert "too much, so that it is not used" in triage.rule_text(found)
    without = data([structure("liver")], {**card(0), "calibration": {}})
    assert triage.verdict(without.structures[0], without).group == triage.LOOK


def test_a_users_own_contour_is_not_covered():
    found = data([structure("liver")], {}, "own")
    assert triage.verdict(found.structures[0], found).group == triage.UNCOVERED


def test_what_is_only_moved_is_not_covered_by_a_rule_about_two_paths():
    lights = {"amber": {"dice": {**FLAGS, "missed": 4, "true_msd_mm": 2.0}}}
    summary = {"structures": [{"name": "liver", "paths": ["propagated", "segmented"]}, {"name": "PTV", "paths": []}]}
    intervals = {0.9: Interval(0.9, 1.0, 2.0, True, 50)}
    found = data(
        [structure("liver"), structure("PTV", intervals=intervals)],
        {"calibration": {"lights": lights}},
        "propagate",
        summary,
    )
    assert [triage.verdict(s, found).group for s in found.structures] == [triage.FINE, triage.UNCOVERED]
    assert "off by more than 2.0 mm on average" in triage.rule_text(found)


@pytest.mark.parametrize("file", sorted(MODELS.glob("*/model.json")), ids=lambda f: f.parent.name)
def test_shipped_cards_say_what_bears_their_groups(file):
    """The numbers are those of the card; a card without a record calls nothing fine."""
    shipped = json.loads(file.read_text(encoding="utf-8"))
    record = triage.record_of(shipped)
    flags = [*(shipped["calibration"].get("flags") or {}).values()]
    flags += [*((shipped["calibration"].get("lights") or {}).get("amber") or {}).values()]
    assert (record is None) == (not flags)
    if record is not None:
        entry = next(e for e in flags if e["missed"] == record.off)
        assert record.fine + entry["caught"] + entry["false_alarms"] == entry["cases"]


def test_a_dice_that_is_not_calibrated_is_not_shown():
    from RTUncertaintyLib.review.table import quality_text

    calibrated = structure("liver", quality=Quality(0.91, 0.85, 0.95, True, 0.2))
    assert quality_text(calibrated) == "Expected Dice 0.91 (0.85 to 0.95)."
    assert quality_text(dataclasses.replace(calibrated, quality=Quality(0.99, None, None, False, 0.2))) == ""


def test_the_panel_opens_with_a_sentence_and_groups(opened):
    widget = opened("many")
    ui, table = widget.ui, widget.ui.structuresTable
    assert ui.groupsLabel.text == f"<b>{triage.sentence(widget.panel.data)}</b>"
    titles = [table.item(r, 0).text() for r in range(table.rowCount) if is_title(table, r)]
    assert titles[0].startswith("Look at these (") and is_title(table, 0)
    assert all(column(widget, WHY)) and ui.ruleLabel.text == triage.rule_text(widget.panel.data)
    table.cellClicked.emit(0, 0)
    assert widget.panel.parameters.structure == "", "a title is no structure"


def test_what_an_interval_means_stands_where_it_stands(opened):
    widget = opened("new")
    text = widget.ui.intervalLabel.text
    assert text.startswith("Interval: in 9 of 10 patients the true volume lies in it; checked on 28 validation cases.")
    assert "explain/uncertainty.md" in text and widget.ui.intervalLabel.openExternalLinks
    widget.ui.levelComboBox.currentIndex = 2
    assert widget.ui.intervalLabel.text.startswith("Interval: in 4 of 5 patients")


def test_keys_go_through_what_matters(opened):
    from RTUncertaintyLib.headless import scene as headless

    widget = opened("new")
    headless.add_views(slicer.app._headless, (300, 200))
    keys = {s.key.toString(): s for s in widget._shortcuts}
    assert set(keys) == {"N", "A", "E", "X"}
    groups = triage.groups(widget.panel.data)
    order = [s.name for g in triage.GROUPS for s in groups[g]]
    keys["N"].activated.emit()
    assert widget.panel.parameters.structure == order[0] and run_scene.nested_structure(widget.panel.nodes) == order[0]
    view = nodes_by_class(slicer.mrmlScene, "vtkMRMLSliceNode")[0]
    assert view.GetFieldOfView()[0] < 300 and view.GetFieldOfView()[0] / view.GetFieldOfView()[1] == pytest.approx(1.5)
    keys["A"].activated.emit()
    assert widget.panel.data.structure(order[0]).decision.state == "accepted"
    keys["N"].activated.emit()
    assert widget.panel.parameters.structure == order[1]
    keys["X"].activated.emit()
    assert widget.panel.data.structure(order[1]).decision.state == "rejected"
    keys["N"].activated.emit()
    assert widget.ui.statusLabel.text == "All structures are decided."
    widget.exit()
    assert widget._shortcuts == [], "keys are the open module's"
    widget.enter()
    assert row_of(widget, order[0]) >= 0 and column(widget, STRUCTURE) and len(widget._shortcuts) == 4
    slicer.app._headless.close()
