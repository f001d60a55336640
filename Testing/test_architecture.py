"""Who may import whom: each folder its own files and those of the floors below it, and nothing else. One test, no
circles.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# from the ground up; what stands on one floor does not know its neighbours
FLOORS = {
    "rtuncertainty": [
        "core",
        "networks",
        "bundles deformation uncertainty",
        "sampling",
        "results",
        "dicom",
        "prediction propagation dose",
        "foreign",
        "report",
        "phantoms",
        "jobs commissioning",
        "cli",
    ],
    "RTUncertaintyLib": ["widgets", "mrml", "runs", "jobs", "prediction propagation review", "headless", "scene"],
    "training": ["core", "data", "methods", "run", "calibration", "evaluation", "studies"],
}
OTHERS = {"rtuncertainty": set(), "RTUncertaintyLib": {"rtuncertainty"}, "training": {"rtuncertainty"}}
# libraries at file scope; others are imported where they are used
LIBRARIES = {"numpy", "scipy", "SimpleITK", "torch"}
FURTHER = {
    "rtuncertainty/dicom": {"pydicom"},
    "rtuncertainty/dose/plan": {"pydosert"},
    "rtuncertainty/report": {"jinja2", "PIL"},
}
NEVER = {
    "rtuncertainty": {"slicer", "qt", "ctk", "vtk", "monai", "lightning"},
    "RTUncertaintyLib": {"monai", "lightning", "training"},
    "training": {"slicer", "qt"},
}


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = {}
    for top, place in (
        ("rtuncertainty", ROOT / "RTUncertainty"),
        ("RTUncertaintyLib", ROOT / "RTUncertainty"),
        ("training", ROOT),
    ):
        for path in sorted((place / top).rglob("*.py")):
            name = ".".join(path.relative_to(place).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(name: str, path: Path):
    """(dotted name, at file scope) of all that a module imports; a module of ours whole, `from x import module`
    included.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.name, node in tree.body) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield (whole if whole in MODULES else base), node in tree.body
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value in MODULES
            and "." in node.value
        ):
            yield node.value, False  # a module's name in a string is an import too


def floor(name: str) -> tuple[str, str, int]:
    """(package, folder, floor) of a module; what lies beside the folders stands on top of them all."""
    top, _, rest = name.partition(".")
    folder = rest.split(".")[0]
    for level, folders in enumerate(FLOORS[top]):
        if folder in folders.split():
            return top, folder, level
    return top, folder, len(FLOORS[top])


def test_nothing_is_imported_from_above():
    wrong = []
    for name, path in MODULES.items():
        top, folder, level = floor(name)
        for used, at_file_scope in imports(name, path):
            library = used.split(".")[0]
            if library in FLOORS:
                if library == top:
                    _, theirs, below = floor(used)
                    if used != top and theirs != folder and not below < level:
                        wrong.append(f"{name} imports {used}")
                elif library not in OTHERS[top]:
                    wrong.append(f"{name} imports {used}")
            elif library in NEVER[top]:
                wrong.append(f"{name} imports {library}")
            elif (
                top == "rtuncertainty"
                and at_file_scope
                and library not in sys.stdlib_module_names | LIBRARIES | {"__future__"}
            ):
                if not any(
                    name.replace(".", "/").startswith(place) and library in more for place, more in FURTHER.items()
                ):
                    wrong.append(f"{name} imports {library} at file scope")
            elif top == "RTUncertaintyLib" and at_file_scope and library == "torch":
                wrong.append(f"{name} imports torch at file scope: Slicer must start without it")
    assert not wrong, "\n".join(wrong)


def test_no_folder_is_crowded():
    folders = {path.parent for path in MODULES.values()}
    counts = {str(f.relative_to(ROOT)): len(list(f.glob("*.py"))) for f in folders}
    assert {f: n for f, n in counts.items() if n > 15} == {}


def test_extension_metadata():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    values = dict(re.findall(r'set\(EXTENSION_(\w+) "([^"]*)"', text))
    assert values["CATEGORY"] == "Radiotherapy" and "PyTorch" in values["DEPENDS"].split()
    for url in [values["ICONURL"], *values["SCREENSHOTURLS"].split(" ")]:
        assert (ROOT / url.split("/raw/main/")[1]).is_file(), f"{url} points at a file that is not there"
    assert (ROOT / "LICENSE").is_file()


def test_cmake_lists_what_a_module_needs():
    for lists in (ROOT / "RTUncertainty").glob("RT*/CMakeLists.txt"):
        text = lists.read_text(encoding="utf-8")
        name = lists.parent.name
        for path in [
            p
            for p in lists.parent.rglob("*")
            if p.is_file() and p.suffix in (".py", ".ui", ".png", ".csv", ".json", ".ctbl")
        ]:
            listed = str(path.relative_to(lists.parent)).replace(name, "${MODULE_NAME}")
            assert listed in text or str(path.relative_to(lists.parent)) in text, f"{lists} does not list {path.name}"
