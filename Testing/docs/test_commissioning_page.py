"""The page "Commissioning" runs as printed: with fewer and coarser limbs, and a small untrained network under the
name of the model."""

import json
import shlex
import sys
from pathlib import Path

from test_documentation import DOCS, ROOT, blocks

sys.path.append(str(ROOT / "Testing" / "backend"))
from make_bundle import make_bundle  # noqa: E402

from rtuncertainty.cli import command_line  # noqa: E402
from rtuncertainty.results import Result, tables  # noqa: E402

PAGE = DOCS / "use" / "commissioning.md"


def test_the_page_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "models" / "limb", name="limb-t1-synct")
    monkeypatch.setenv("RTU_MODELS", str(tmp_path / "models"))
    (code,) = blocks(PAGE, "python")
    smaller = {"range(1, 13)": "range(1, 4)", "(64, 64, 12)": "(32, 32, 5)", "(2.5, 2.5, 5)": "(5, 5, 6)"}
    for printed, here in smaller.items():
        assert printed in code
        code = code.replace(printed, here)
    exec(compile(code, str(PAGE), "exec"), {})
    lines = [line for block in blocks(PAGE, "") for line in block.splitlines()]
    for line in lines:
        assert command_line.main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr().err)
    assert len(lines) == 4
    said = capsys.readouterr().out
    assert said.count("limb01  used") == 2 and "The test case gives the same result to the last digit" in said
    # what the page says of the files
    assert len(tables.read("commissioned/cases.csv")) == 3
    assert json.loads(Path("commissioned/site.json").read_text(encoding="utf-8"))["site"] == "Digital clinic"
    assert Result.read("routine/limb01").summary["site"]["person"] == "A. Physicist"
    assert Path("charts/monitor.html").is_file() and Path("commissioned/commissioning.html").is_file()
