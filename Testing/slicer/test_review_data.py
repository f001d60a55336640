"""What a run says about its structures, from its nodes alone: of new and old results, and after the scene was saved
and opened.
"""

import csv
import json
from dataclasses import replace

import pytest
from make_propagation import make_propagation
from make_result import make_result
from make_review import LEVELS, PERCENTILES, add_review_files

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.headless import scene as headless
from RTUncertaintyLib.propagation import table as propagation_table
from RTUncertaintyLib.review.logic import ReviewLogic
from RTUncertaintyLib.review.table import tip, volume_text
from RTUncertaintyLib.runs.propagation.structure_rows import StructureRow
from RTUncertaintyLib.runs.result_tables import volume_row
from RTUncertaintyLib.runs.review_data import Decision, Flag, Interval, ReviewData


def rows(folder, file):
    with open(folder / file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def folder(tmp_path):
    return add_review_files(make_result(tmp_path / "r"))


def test_all_that_the_files_say(scene, folder):
    data = ReviewData.of_run(run_scene.load_result(folder))
    assert (data.name, data.job, data.level) == ("limb-t1-synct on mr", "predict", 0.9)
    assert [s.name for s in data.structures] == ["bone", "gtv"] and data.levels() == LEVELS
    quality = {r["structure"]: r for r in rows(folder, "structure_quality.csv")}
    for structure in data.structures:
        told = [r for r in rows(folder, "volume_distribution.csv") if r["structure"] == structure.name]
        assert [(p.percentile, p.volume_ml, p.calibrated_ml) for p in structure.distribution] == [
            (float(r["percentile"]), float(r["volume_ml"]), float(r["calibrated_ml"])) for r in told
        ]
        assert tuple(p.percentile for p in structure.distribution) == PERCENTILES
        for r in rows(folder, "volume_intervals.csv"):
            if r["structure"] == structure.name:
                found = structure.interval(float(r["level"]))
                assert (found.lower_ml, found.upper_ml, found.calibrated, found.cases, found.note) == (
                    float(r["lower_ml"]) if r["lower_ml"] else None,
                    float(r["upper_ml"]) if r["upper_ml"] else None,
                    r["calibrated"] == "yes",
                    int(r["cases"]),
                    r["note"],
                )
        assert structure.quality.expected_dice == float(quality[structure.name]["expected_dice"])
        assert structure.quality.surface_entropy == float(quality[structure.name]["surface_entropy"])
    assert data.structure("bone").volume_ml == 4.93 and data.structure("bone").color == pytest.approx(
        [v / 255 for v in (241, 214, 145)]
    )
    assert data.structure("liver") is None and data.structure("bone").interval(0.42) is None


def test_uncalibrated_and_empty_numbers(scene, tmp_path):
    folder = add_review_files(make_result(tmp_path / "r"), calibrated=False)
    bone = ReviewData.of_run(run_scene.load_result(folder)).structure("bone")
    assert not bone.interval(0.9).calibrated and bone.interval(0.9).cases == 0
    assert {p.calibrated_ml for p in bone.distribution} == {None} and not bone.quality.calibrated
    for level in LEVELS:
        interval = bone.interval(level)
        assert interval.lower_ml is None is interval.upper_ml and "never calibrated" in interval.note
    assert volume_text(bone, 0.9) == "4.9\nnot calibrated"
    assert "No interval: this model's volumes were never calibrated." in tip(bone, 0.9)
    # of two that differ in nothing else, the unknown width stands first; a flag goes before both
    known, unknown = (replace(bone, name=n, quality=None, flags=()) for n in ("a", "b"))
    known = replace(known, intervals={0.9: Interval(0.9, 1.0, 40.0, True)})
    flagged = replace(known, name="c", flags=(Flag("c", "info", "cut off", ""),))
    assert [s.name for s in sorted([known, unknown, flagged], key=lambda s: s.worst_first())] == ["c", "b", "a"]


def test_rows_of_the_panels_without_an_interval():
    row = {"structure": "gtv", "volume_ml": "2.2", "lower_ml": "", "upper_ml": "", "level": "0.9", "calibrated": "no"}
    assert volume_row(row) == ["gtv", "2.2", "not calibrated", "no"]
    assert volume_row(row | {"lower_ml": "2", "upper_ml": "3"}) == ["gtv", "2.2", "2.0 to 3.0 (90%)", "no"]
    row = StructureRow(
        "gtv", ("propagated",), "propagated", "green", "", "", 2.0, {"propagated": (2.2, None, None)},
        {"propagated": 0.8}, None, None, 0,
    )  # fmt: skip
    assert propagation_table.volume_text(row, "propagated") == "2.0 → 2.2\nnot calibrated"
    assert propagation_table.volume_text(replace(row, sd_mm={"propagated": None}), "propagated") == "2.0 → 2.2"


def test_a_result_of_an_older_version(scene, tmp_path):
    data = ReviewData.of_run(run_scene.load_result(make_result(tmp_path / "r")))
    bone, gtv = data.structures
    assert data.levels() == (0.9,) and (bone.interval(0.9).lower_ml, bone.interval(0.9).upper_ml) == (4.71, 5.2)
    assert gtv.interval(0.9) is None and bone.distribution == () and bone.quality is None
    assert [f.subject for f in data.general_flags] == ["synCT"] and bone.flags == ()


def test_a_run_whose_summary_was_not_kept(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"))
    for text in (None, "not json", "[1]"):
        if text is None:
            run.main.RemoveAttribute("RTUncertainty.Summary")
        else:
            run.main.SetAttribute("RTUncertainty.Summary", text)
        data = ReviewData.of_run(run)
        assert data.job == "predict" and data.card == {} and data.notes == () and len(data.structures) == 2


def test_a_propagation(scene, tmp_path):
    data = ReviewData.of_run(run_scene.load_propagation(add_review_files(make_propagation(tmp_path / "r"))))
    assert data.job == "propagate" and [s.name for s in data.structures] == [
        "Brainstem",
        "SpinalCord",
        "Parotid_L",
        "Parotid_R",
        "PTV70",
    ]
    table = {r["structure"]: r for r in rows(tmp_path / "r", "structures.csv")}
    right = data.structure("Parotid_R")
    assert right.worst_slice == int(table["Parotid_R"]["worst_slice"]) and right.planning_ml == float(
        table["Parotid_R"]["planning_ml"]
    )
    assert (
        right.severity == {"red": "serious", "amber": "warning", "green": ""}[table["Parotid_R"]["light"]]
        and right.flags[0].reason
    )
    assert data.structure("Brainstem").severity == "" and right.interval(0.68).calibrated


def test_worst_first(scene, tmp_path):
    data = ReviewData.of_run(run_scene.load_propagation(add_review_files(make_propagation(tmp_path / "r"))))
    ranked = sorted(data.structures, key=lambda s: s.worst_first())
    severities = [s.severity for s in ranked]
    assert severities == sorted(severities, key=["serious", "warning", "info", ""].index) and severities[0] == "serious"
    unflagged = [s for s in ranked if not s.severity]
    assert [s.quality.expected_dice for s in unflagged] == sorted(s.quality.expected_dice for s in unflagged)


def test_the_same_from_a_scene_file(scene, folder, tmp_path):
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["notes"], summary["model"] = ['Größer als üblich; 90 % : "so".'], {"name": "m", "title": "Knochen & Tumor"}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    run = run_scene.load_result(folder)
    run_scene.decide(run, "gtv", "rejected", 'spills; into\n"muscle", 5 %', "Dr. Grün")
    before, file = ReviewData.of_run(run), tmp_path / "s.mrb"
    assert scene.WriteToMRB(str(file))
    holder = headless.new_scene()
    headless.open_scene(holder, file)
    (run_id,) = run_scene.find_runs(holder.scene)
    after = ReviewData.of_run(run_scene.run_nodes(run_id, holder.scene))
    assert (
        after.notes == before.notes == tuple(summary["notes"])
        and after.card == summary["model"]
        and "files" not in after.summary
    )
    assert after.structure("gtv").decision == before.structure("gtv").decision
    assert (
        after.structure("gtv").decision.comment == 'spills; into "muscle", 5 %'
        and after.structure("gtv").decision.reviewer == "Dr. Grün"
    )
    for old, new in zip(before.structures, after.structures):
        assert new.intervals == old.intervals and new.distribution == old.distribution and new.quality == old.quality


def test_decisions_are_a_log(scene, folder):
    run = run_scene.load_result(folder)
    assert ReviewData.of_run(run).structure("bone").decision == Decision() and run_scene.undo_decision(run) is None
    assert "review" not in run.tables
    run_scene.decide(run, "bone", "accepted", "fine")
    run_scene.decide(run, "bone", "edited", "cut the knee ")
    run_scene.decide(run, "gtv", "rejected")
    data = ReviewData.of_run(run)
    assert (
        data.counts() == {"accepted": 0, "edited": 1, "rejected": 1, "open": 0}
        and data.structure("bone").decision.comment == "cut the knee"
    )
    assert [run_scene.undo_decision(run) for _ in range(2)] == ["gtv", "bone"]
    assert ReviewData.of_run(run).counts() == {"accepted": 1, "edited": 0, "rejected": 0, "open": 1}
    with pytest.raises(ValueError, match="no decision"):
        run_scene.decide(run, "bone", "maybe")
    scene.RemoveNode(run.tables["review"])
    assert ReviewData.of_run(run).counts()["open"] == 2 and run_scene.decided(run) == 0
    run_scene.decide(run, "bone", "accepted")
    assert run_scene.decided(run) == 1


@pytest.mark.parametrize("lacks", [(), ("parameter_sd", "predictive_sd")])
def test_a_folder_is_not_loaded_twice(scene, tmp_path, lacks):
    """Neither where the model gives no such SD, which the loader adds to the notes."""
    folder = make_result(tmp_path / "r")
    summary = json.loads((folder / "summary.json").read_text())
    for key in lacks:
        del summary["files"][key]
    (folder / "summary.json").write_text(json.dumps(summary))
    logic = ReviewLogic()
    first = logic.review(folder, show=False)
    assert logic.review(folder, show=False).run_id == first.run_id and len(logic.runs()) == 1
