"""README and documentation say what is there: links, commands, options, cards, and Python that runs."""

import ast
import inspect
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "RTUncertainty")]
DOCS = ROOT / "Resources" / "Documentation"
README = ROOT / "README.md"
GUIDE = ROOT / "training" / "README.md"
RESULTS = sorted((ROOT / "training" / "results").glob("*.md")) + sorted(
    (ROOT / "training" / "results").glob("*/README.md")
)
METHODS = sorted((ROOT / "training" / "methods").rglob("README.md"))
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
NOT_EXECUTED = "<!-- not executed"


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language ("" for none), but for those that are marked as not to be executed."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(r"(?P<before>[^\n]*)\n```(?P<language>\w*)\n(?P<code>.*?)\n```", text, re.DOTALL)
    return [m["code"] for m in found if m["language"] == language and not m["before"].startswith(NOT_EXECUTED)]


def commands(path: Path) -> list[str]:
    """What calls one of our command lines in code blocks and in code within the text."""
    text = path.read_text(encoding="utf-8")
    lines = [line for block in blocks(path, "") + blocks(path, "bash") for line in block.splitlines()]
    lines += re.findall(r"`((?:python -m training|python -m rtuncertainty|rtuncertainty) [^`]+)`", text)
    found = (re.sub(r"^(\w+=\S+ )+", "", line.strip()) for line in lines)
    ours = re.compile(r"(\S*/)?(rtuncertainty|python -m rtuncertainty|python -m training) ")
    return [line for line in found if ours.match(line)]


def test_readme_is_short():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120, f"README.md has {len(lines)} lines"


def broken_links(path: Path) -> list[str]:
    """Links of a page that point at no file, or at no heading of one."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        if not target.exists() or anchor and anchor not in anchors(target):
            found.append(link)
    return found


def anchors(path: Path) -> set[str]:
    """The anchors that headings get on GitHub and in the web site."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", [*PAGES, GUIDE, *METHODS, *RESULTS], ids=name)
def test_links_point_at_something(path):
    assert broken_links(path) == []


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))


def choices(parser) -> dict:
    """The commands of a parser, each with its own parser."""
    return next(a.choices for a in parser._actions if isinstance(a.choices, dict))


def test_every_command_parses():
    """Every command of README, documentation and training guide, with the real parsers; nothing is run."""
    from rtuncertainty.cli.command_line import parser
    from rtuncertainty.core.errors import InputError
    from training.__main__ import parser as training_parser

    parsers = {"rtuncertainty": parser(), "training": training_parser()}
    problems, seen = [], 0
    for path in [*PAGES, GUIDE, *METHODS, *RESULTS]:
        for line in commands(path):
            words = shlex.split(line, comments=True)
            at = (
                words.index("training")
                if "training" in words[:3]
                else next(i for i, w in enumerate(words) if Path(w).name == "rtuncertainty")
            )
            which, given = Path(words[at]).name, words[at + 1 :]
            seen += 1
            if len(given) == 1 or given[-1] in ("…", "NAME"):  # only named in a sentence
                problems += [] if given[0] in choices(parsers[which]) else [f"{name(path)}: {line}"]
                continue
            try:
                parsers[which].parse_args(given)
            except (SystemExit, InputError) as error:
                problems.append(f"{name(path)}: {line}: {error}")
    assert problems == []
    assert seen > 50


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in PAGES:
        for target in re.findall(r"(?:^|`)make (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert target == "package" or re.search(rf"^{target}:", makefile, re.MULTILINE), (
                f"{name(path)}: make {target}"
            )


def test_made_pages_are_current():
    """Options and cards are as the program has them."""
    pages = runpy.run_path(str(DOCS / "make_pages.py"))["pages"]()
    old = [name(path) for path, text in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    assert old == [], "run 'python Resources/Documentation/make_pages.py'"
    assert {p.stem for p in DOCS.glob("models/*.md")} == {
        "index",
        *(p.parent.name for p in (ROOT / "Resources/Models").glob("*/model.json")),
    }


def test_no_option_is_missing():
    """Each command of the command line is described, and each of its options is in the page of options."""
    from rtuncertainty.cli.command_line import parser

    described = (DOCS / "use" / "command_line.md").read_text(encoding="utf-8")
    listed = (DOCS / "use" / "options.md").read_text(encoding="utf-8")
    for command, given in choices(parser()).items():
        assert f"| `{command}` |" in described
        section = listed.partition(f"## rtuncertainty {command}\n")[2].partition("\n## ")[0]
        for action in given._actions:
            assert action.dest == "help" or all(f"`{o}`" in section for o in action.option_strings), (
                f"{command} {action.option_strings}"
            )


def test_python_examples_run(tmp_path):
    """Every example that is not marked otherwise, as a user would run it, on a small digital limb with 2 samples."""
    examples = [
        code for code in blocks(README, "python") + blocks(DOCS / "use" / "python.md", "python") if "slicer" not in code
    ]
    assert len(examples) >= 4 and all("samples=20" not in code for code in examples)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(examples)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT / "RTUncertainty")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "gtv:" in done.stdout and "structure,volume_ml" in done.stdout


def test_names_and_arguments_of_other_examples():
    """What cannot be run here, `propagate` and the modules' logic, is called with arguments that exist."""
    import rtuncertainty

    methods = {"propagate_backend": inspect.signature(rtuncertainty.propagate).parameters}
    for module in ("prediction", "propagation", "review"):
        tree = ast.parse(
            (ROOT / "RTUncertainty" / "RTUncertaintyLib" / module / "logic.py").read_text(encoding="utf-8")
        )
        methods |= {
            f.name: [a.arg for a in f.args.args + f.args.kwonlyargs]
            for c in tree.body
            if isinstance(c, ast.ClassDef)
            for f in c.body
            if isinstance(f, ast.FunctionDef)
        }
    checked = 0
    for path in (README, DOCS / "use" / "python.md", DOCS / "use" / "slicer_console.md"):
        for code in re.findall(r"```python\n(.*?)\n```", path.read_text(encoding="utf-8"), re.DOTALL):
            for call in (
                c for c in ast.walk(ast.parse(code)) if isinstance(c, ast.Call) and isinstance(c.func, ast.Attribute)
            ):
                owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
                key = (
                    "propagate_backend" if (owner, call.func.attr) == ("rtuncertainty", "propagate") else call.func.attr
                )
                if key in methods and owner != "rtuncertainty" or key == "propagate_backend":
                    checked += 1
                    assert {k.arg for k in call.keywords} <= set(methods[key]), f"{name(path)}: {ast.unparse(call)}"
    assert checked >= 7


@pytest.mark.parametrize("module", ["RTPrediction", "RTPropagation", "RTReview"])
def test_help_of_a_module_links_its_page(module):
    source = (ROOT / "RTUncertainty" / module / f"{module}.py").read_text(encoding="utf-8")
    base = re.search(r'DOCUMENTATION = "https://github.com/[^/]+/[^/]+/blob/main/([^"]+)"', source)[1]
    page = re.search(r"\{DOCUMENTATION\}/(\S+?\.md)", source)[1]
    assert (ROOT / base / page).is_file()


def test_site_builds(tmp_path):
    """`make docs`, where mkdocs is installed: no warning; pictures and links to the repository are in place."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    page = (tmp_path / "modules" / "RTReview.html").read_text(encoding="utf-8")
    assert (
        all((tmp_path / "modules" / src).is_file() for src in re.findall(r'src="([^":]+\.png)"', page))
        and "RTReview_structure.png" in page
    )
    assert "/blob/main/training/README.md" in (tmp_path / "use" / "training.html").read_text(encoding="utf-8")
    assert "Predict synthetic CT and structures" in (tmp_path / "api" / "jobs.html").read_text(encoding="utf-8")
