"""Networks against each other and the baselines, from their rows.json alone."""

from __future__ import annotations

from pathlib import Path

from ...core.files import replace_text
from . import figures, significance, store, tables


def run(folders: dict[str, Path | list[Path]], out: Path, reference: str | None = None) -> Path:
    """Compares networks and baselines.

    Writes comparison.md (all tables), comparison.csv (every number), summary.csv (mean and SD), significance.csv (every
    test) and the figures of `figures.NAMES`.

    Args:
        folders: name → folder with rows.json, or one folder a fold.
        out: where to.
        reference: the network or baseline against which all are tested; None: every pair of networks.

    Returns:
        comparison.md.

    Raises:
        SystemExit: as of `store.gather`, and for a reference that is not among them.
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
