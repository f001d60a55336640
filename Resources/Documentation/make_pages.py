"""Writes the pages that are made from the program: every option of both command lines, every shipped model's card.

`python Resources/Documentation/make_pages.py` after an option or a card has changed; Testing/docs checks it.
"""

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODELS = ROOT / "Resources" / "Models"
NOTE = "<!-- made by Resources/Documentation/make_pages.py: do not edit -->"
SECTIONS = {
    "training": "Training",
    "accuracy": "Accuracy",
    "calibration": "Calibration of the uncertainty",
    "outputs": "Outputs",
    "input": "Input",
    "architecture": "Network",
    "dropout": "Dropout",
    "weights": "Weights",
}


def pages() -> dict[Path, str]:
    """Text of every made page by its path."""
    sys.path[:0] = [str(ROOT / "RTUncertainty"), str(ROOT)]
    from rtuncertainty.cli.command_line import parser
    from training.__main__ import parser as training_parser

    found = {
        HERE / "use" / "options.md": options("All options of the command line", parser()),
        HERE / "use" / "training_options.md": options("All options of training", training_parser()),
    }
    for path in sorted(MODELS.glob("*/model.json")):
        found[HERE / "models" / f"{path.parent.name}.md"] = card(json.loads(path.read_text(encoding="utf-8")))
    return found


def options(title: str, parser: argparse.ArgumentParser) -> str:
    """A page with a table of options for every command of a parser."""
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    lines = [NOTE, f"# {title}", ""]
    for about in commands._choices_actions:
        lines += [f"## {parser.prog} {about.dest}", "", f"{about.help[:1].upper()}{about.help[1:]}.", ""]
        given = [a for a in commands.choices[about.dest]._actions if not isinstance(a, argparse._HelpAction)]
        lines += table(["option", "value", "default", "meaning"], [option(a) for a in given]) + [""]
    return "\n".join(lines)


def option(action) -> list[str]:
    """A row: name, value, default, meaning."""
    name = ", ".join(action.option_strings) or action.metavar or action.dest
    value = (
        " \\| ".join(map(str, action.choices))
        if action.choices
        else ""
        if action.nargs == 0
        else str(action.metavar or action.dest.upper())
    )
    default = action.default
    if isinstance(default, list):
        default = " ".join(map(str, default))
    given = "" if default is None or default is False or default == argparse.SUPPRESS else str(default)
    meaning = (action.help or "").replace("%%", "%").replace("%(default)s", given)
    return [f"`{name}`", value, "required" if action.required else given, safe(meaning)]


def card(c: dict) -> str:
    """The page of a model: its whole card."""
    lines = [
        NOTE,
        f"# {c['name']}",
        "",
        f"{c['title']}. Version {c['version']}, licence: {c['licence']}.",
        "",
        f"**{c['intended_use']}**",
        "",
    ]
    if c["training"].get("phantom"):
        lines += ["**Trained on digital phantoms only: it has never seen a patient.**", ""]
    lines += [
        "[What it gets wrong, and what an independent check found](index.md);",
        "[how to read the figures](index.md#how-to-read-the-figures-of-a-card).",
        "Every entry of the card follows, as it stands in",
        f"[model.json](../../Models/{c['name']}/model.json). `null`: nothing is given (of a spacing: the",
        "image keeps its own; of a calibration: there is none).",
        "",
    ]
    for key, heading in SECTIONS.items():
        lines += [f"## {heading}", "", *entries(c[key]), ""]
    rest = {k: v for k, v in c.items() if k not in SECTIONS and k not in ("title", "intended_use", "licence")}
    return "\n".join([*lines, "## Other entries", "", *entries(rest), ""])


def entries(given: dict) -> list[str]:
    """A section of the card as a table of names and values; the list of structures as a table of its own."""
    rows, lists = [], []

    def walk(name, value):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lists.append((name, value))
        elif name == "table":  # the figures of `accuracy`, one a row
            rows.extend([key, text(inner)] for key, inner in value.items())
        elif isinstance(value, dict) and any(not isinstance(v, (int, float)) for v in value.values()):
            for key, inner in value.items():
                walk(f"{name} › {key}" if name else key, inner)
        else:
            rows.append([name, text(value)])

    for key, value in given.items():
        walk(key, value)
    lines = table(["entry", "value"], rows) if rows else []
    for name, items in lists:
        columns = list(dict.fromkeys(k for item in items for k in item))
        lines += [
            "",
            f"{name}:",
            "",
            *table(columns, [[text(item[k]) if k in item else "" for k in columns] for item in items]),
        ]
    return lines


def text(value) -> str:
    """A value of a card for a cell."""
    if isinstance(value, dict):
        return "; ".join(f"{k}: {text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(f"({text(v)})" if isinstance(v, list) else text(v) for v in value)
    return safe(value) if isinstance(value, str) else json.dumps(value)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def safe(words: str) -> str:
    """`words` as they can stand in a cell."""
    return words.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    for path, content in pages().items():
        path.write_text(content, encoding="utf-8")
