"""The house: what lies under RTUncertainty/ is installed, metadata of the extension is whole, layers look one way."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ROOT / "RTUncertainty"
SOURCES = sorted(HOUSE.rglob("*.py"))


def listed() -> set[Path]:
    """The files that the CMakeLists.txt under RTUncertainty/ name, each relative to the CMakeLists.txt's own folder."""
    found = set()
    for lists in HOUSE.rglob("CMakeLists.txt"):
        text = re.sub(r"#.*", "", lists.read_text(encoding="utf-8"))
        name = re.search(r"set\(MODULE_NAME (\w+)\)", text)
        text = text.replace("${MODULE_NAME}", name.group(1) if name else "")
        found |= {lists.parent / word for word in re.findall(r"[\w./-]+\.\w+", text)}
    return found


def wanted() -> set[Path]:
    files = [p for p in HOUSE.rglob("*") if p.is_file() and "__pycache__" not in p.parts and not p.name.startswith(".")]
    return {p for p in files if p.name != "CMakeLists.txt" and p.suffix != ".pyc" and ".egg-info" not in str(p)}


def test_every_file_is_installed():
    assert sorted(str(p.relative_to(HOUSE)) for p in wanted() - listed()) == []


def test_cmake_names_no_file_that_is_gone():
    files = {p for p in listed() if p.suffix in (".py", ".png", ".ui", ".json", ".csv", ".ctbl")}
    assert sorted(str(p.relative_to(HOUSE)) for p in files if not p.is_file()) == []


def test_extension_metadata():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    values = dict(re.findall(r'set\(EXTENSION_(\w+) "([^"]*)"', text))
    assert values["CATEGORY"] == "Radiotherapy" and "PyTorch" in values["DEPENDS"].split()
    for url in [values["ICONURL"], *values["SCREENSHOTURLS"].split(" ")]:
        path = ROOT / url.split("/raw/main/")[1]
        assert path.is_file(), f"{url} points at a file that is not there"
    assert (ROOT / "LICENSE").is_file()


def imported(path) -> set[str]:
    """Top-level names that a file imports, at its top or inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module and not n.level}
    return {name.split(".")[0] for name in names}


def at_file_scope(path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    return {(a.name if isinstance(n, ast.Import) else n.module or "").split(".")[0] for n in nodes for a in n.names}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_who_may_know_whom(path):
    package, names = path.relative_to(HOUSE).parts[0], imported(path)
    assert not names & {"training", "monai", "lightning"}
    if package == "rtuncertainty":
        allowed = {"torch", "numpy", "scipy", "SimpleITK", "rtuncertainty", "__future__"} | set(sys.stdlib_module_names)
        assert names <= allowed, names - allowed
    elif package == "rtdicom":
        allowed = {"pydicom", "highdicom", "numpy", "scipy", "SimpleITK", "rtuncertainty", "__future__"} | set(sys.stdlib_module_names)
        # highdicom is for SEG only, and not everyone has it
        assert names <= allowed and "highdicom" not in at_file_scope(path), names - allowed
    elif package == "rtplan":
        assert names <= {"pydosert", "torch", "numpy", "scipy", "SimpleITK", "rtuncertainty", "__future__"} | set(sys.stdlib_module_names)
    else:
        assert "torch" not in at_file_scope(path)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


TEXT_METHODS = {"read_text", "write_text"}
PROGRAMS = {"run", "Popen", "check_output"}


def without_encoding(path) -> list[int]:
    """Lines that read or write text in whatever encoding the machine happens to have."""
    found = []
    for call in [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = {k.arg for k in call.keywords}
        mode = call.args[1].value if len(call.args) > 1 and isinstance(call.args[1], ast.Constant) else "r"
        is_text = name in TEXT_METHODS or (isinstance(call.func, ast.Name) and name == "open" and "b" not in str(mode))
        is_text |= name in PROGRAMS and "text" in given
        if is_text and "encoding" not in given:
            found.append(call.lineno)
    return found


@pytest.mark.parametrize("folder", ["RTUncertainty", "Testing", "training"])
def test_text_is_utf_8_everywhere(folder):
    lines = {str(p.relative_to(ROOT)): without_encoding(p) for p in (ROOT / folder).rglob("*.py")}
    assert {name: found for name, found in lines.items() if found} == {}
