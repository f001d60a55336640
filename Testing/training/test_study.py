"""The comparison of networks under one budget: from cases to tables, resumed, and never mixed with another budget."""

import json

import pytest
import tiny_cohort
import yaml

import training.__main__ as command
from training import methods
from training.evaluation.comparison import store
from training.studies.mr_only import claims, study

BUDGET = {
    "steps": 3,
    "batch": 2,
    "patch": 24,
    "folds": 3,
    "warm_up": 1,
    "settle_batches": 2,
    "validate_every": 3,
    "checkpoint_every": 1,
    "evaluation": {"samples": 2, "every": 2},
    "networks": {
        "m2a": {"arguments": {"width": 4, "features": 8}},
        "m4": {"arguments": {"classes": 3, "width": 4, "features": 8, "branch_width": 4}},
        "3tn": {"arguments": {"filters": 2}},
    },
}


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    tiny_cohort.write(folder / "prepared", 6)
    (folder / "budget.yaml").write_text(yaml.safe_dump(BUDGET), encoding="utf-8")
    for _ in range(2):  # the second call finds everything done
        command.main(
            [
                "reproduce",
                "mr_only",
                "--data",
                str(folder / "prepared"),
                "--out",
                str(folder / "out"),
                "--config",
                str(folder / "budget.yaml"),
                "--device",
                "cpu",
                "--only",
                "m2a",
                "3tn",
            ]
        )
    return folder


def test_kaushiks_row_is_one_pass_and_the_mean_of_samples_stands_beside_it(studied):
    rows = [store.read(studied / "out" / "evaluation" / n) for n in ("3tn-pass", "3tn")]
    assert [r["samples"] for r in rows] == [1, 2]
    text = (studied / "out" / "results" / "comparison.md").read_text(encoding="utf-8")
    assert "| 3TN |" in text and "| 3TN, mean of samples |" in text
    assert not (studied / "out" / "evaluation" / "m2a-pass").exists()


def test_one_command_goes_from_cases_to_tables(studied):
    results = studied / "out" / "results"
    text = (results / "comparison.md").read_text(encoding="utf-8")
    assert all(name in text for name in ("M2a", "3TN", "monotone map", "Significance")) and "M4" not in text
    for name, parameters in (("m2a", 2), ("3tn", 2)):
        card = json.loads((studied / "out" / "bundles" / name / "model.json").read_text(encoding="utf-8"))
        assert card["architecture"]["name"] == name and card["training"]["steps"] == 3
        found = store.read(studied / "out" / "evaluation" / name)
        assert len(found["cases"]) == parameters and found["samples"] == 2
        assert not set(found["cases"]) & set(found["training"])
    # 3TN tells bone above 250 HU, which is none of the patients' labels: no Dice may be made up from it
    row = next(iter(store.read(studied / "out" / "evaluation" / "3tn")["cases"].values()))["row"]
    assert row["Dice bone"] != row["Dice bone"] and row["Dice bone ≥ 250 HU"] == row["Dice bone ≥ 250 HU"]


def test_another_fold_validates_on_other_patients_and_folds_are_compared_together(studied):
    budget = studied / "budget.yaml"
    study.run("mr_only", studied / "prepared", studied / "out", device="cpu", only=["m2a"], budget=budget, fold=1)
    first, second = (store.read(studied / "out" / part / "evaluation" / "m2a") for part in ("", "fold-1"))
    assert not set(first["cases"]) & set(second["cases"]) and not set(second["cases"]) & set(second["training"])
    text = (studied / "out" / "results" / "folds" / "comparison.md").read_text(encoding="utf-8")
    assert "1 networks on 4 patients" in text and "3TN" not in text
    with pytest.raises(SystemExit, match="--fold: 3 is not one of 0 to 2"):
        study.run("mr_only", studied / "prepared", studied / "out", device="cpu", only=["m2a"], budget=budget, fold=3)


def test_another_budget_is_not_mixed_in(studied):
    other = studied / "other.yaml"
    other.write_text(yaml.safe_dump({**BUDGET, "steps": 4}), encoding="utf-8")
    with pytest.raises(SystemExit, match="another steps"):
        study.run("mr_only", studied / "prepared", studied / "out", device="cpu", only=["m2a"], budget=other)
    with pytest.raises(SystemExit, match="is not one of"):
        study.run("pelvis", None, studied / "out2", device="cpu", only=["3tn"], budget=other)


def test_without_time_nothing_is_compared(studied, tmp_path):
    with pytest.raises(SystemExit, match="no network has been trained"):
        study.run("mr_only", studied / "prepared", tmp_path, 0.0, "cpu", ["m4"], studied / "budget.yaml")


def test_budgets_name_the_networks_that_they_size():
    for name, one in study.STUDIES.items():
        for hardware in ("cpu", "gpu"):
            budget = study.FOLDER / one.budgets / f"{hardware}.yaml"
            sized = yaml.safe_load(budget.read_text(encoding="utf-8"))["networks"]
            assert set(sized) == set(one.networks), (name, hardware)
            steps = {methods.load(methods.file_of(n), budget).steps for n in one.networks}
            assert len(steps) == 1


def rows(values):
    return {
        "format": 1,
        "network": "n",
        "version": "0",
        "weights_sha256": "",
        "samples": 2,
        "training": ["t"],
        "baselines": {},
        "cases": {
            f"p{k}": {
                "reference": k,
                "curves": {},
                "row": {
                    "case": f"p{k}",
                    claims.BODY: v,
                    claims.BONE: 2 * v,
                    "z mean": 0.0,
                    "z sd": 1.0,
                    "within 90 %": 0.9,
                },
            }
            for k, v in enumerate(values)
        },
    }


@pytest.mark.parametrize(
    "shift, count, verdict", [(-5.0, 8, "holds"), (5.0, 8, "contradicted"), (-5.0, 5, "undecided")]
)
def test_claims_are_decided_by_the_patients(tmp_path, shift, count, verdict):
    base = [40.0 + k for k in range(count)]
    for name, values in (("M1", base), ("M2a", [v + shift + 0.1 * k for k, v in enumerate(base)])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.json").write_text(json.dumps(rows(values)), encoding="utf-8")
    text = claims.write({n: tmp_path / n for n in ("M1", "M2a")}, tmp_path / "claims.md").read_text(encoding="utf-8")
    line = next(part for part in text.splitlines() if "dropout helps" in part)
    assert line.endswith(f"| {verdict} |") and f"{count if shift < 0 else 0} of {count}" in line
    assert "M4" not in text  # claims about networks that are not there are left out
