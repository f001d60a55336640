"""Weights that all networks of a study begin with: a budget's `common` trains them, part after part.

One training of what the networks share is worth more on a small budget than one of each from nothing; and what then
differs is what the study compares.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from .. import methods
from . import budgeted, export


def run(
    budget: Path, network: str, prepared: Path, out: Path, card: Path, device: str, until: float | None = None
) -> Path | None:
    """The bundle of the last part of `budget`'s `common`, whose parts are trained as far as time allows.

    A part is a mapping of settings on top of the budget's own for `network`; it begins with the weights of the part
    before, the first one anew. None where the budget has no `common`. Raises `SystemExit` where a part is not finished
    in time.
    """
    settings = yaml.safe_load(budget.read_text(encoding="utf-8")) or {}
    own = {k: v for k, v in settings.items() if k not in (*methods.OF_THE_STUDY, "networks")} | settings.get(
        "networks", {}
    ).get(network, {})
    bundle = None
    for number, part in enumerate(settings.get("common", []), 1):
        name = f"common-{number}"
        begin = {"initialise": str(bundle)} if bundle else {}
        config = budgeted.written(
            out / "configs" / f"{name}.yaml", {"network": network} | own | {"seed": number - 1} | part | begin
        )
        budgeted.train_left({name: config}, prepared, out, None, device, until)
        if not budgeted.finished(out / "runs" / name, methods.load(config)):
            raise SystemExit(
                f"{out}: the weights that all networks begin with are not finished ({name}); give the command again, "
                "with more --minutes."
            )
        bundle = export.run(out / "runs" / name, card, out / "bundles" / name, name=name)
    return bundle
