"""Networks against each other and the baselines, from their rows.json alone."""

from __future__ import annotations

from pathlib import Path

from ...core.files import replace_text
from . import figures, significance, store, tables


def run(folders: dict[str, Path | list[Path]], out: Path, reference: str | None = None) -> Path:
    """Compare the networks in `folders` (name → folder with rows.json, or one folder a fold); returns comparison.md.

    Writes to `out`: comparison.md (all tables), comparison.csv (every number), summary.csv (mean and sd),
    significance.csv (every test) and the figures of `figures.NAMES`. With `reference` all are tested against that
    network or baseline, otherwise every pair of networks. Raises `SystemExit` as `store.gather` does, and for a
    reference that is not among them.
    """
    networks = store.gather(folders)
    names = [n.name for n in networks]
    if reference is not None and reference not in names:
        raise SystemExit(f"the reference '{reference}' is not among the networks: {', '.join(names)}.")
    tests = significance.run(networks, reference)
    out.mkdir(parents=True, exist_ok=True)
    drawn = figures.write(networks, out)
    replace_text(out / "comparison.csv", tables.rows_csv(networks))
    replace_text(out / "summary.csv", tables.summary_csv(networks))
    replace_text(out / "significance.csv", tables.significance_csv(tests))
    text = [
        f"# {len(folders)} networks on {len(networks[0].rows)} patients",
        tables.document(networks),
        "## Significance",
        tables.significance(tests, names, reference),
        pictures(drawn),
    ]
    return replace_text(out / "comparison.md", "\n\n".join(part.strip() for part in text) + "\n")


def pictures(paths: list[Path]) -> str:
    """Markdown that shows figures lying beside the page."""
    return "## Figures\n\n" + "\n".join(f"![{path.stem.replace('_', ' ')}]({path.name})" for path in paths)
