"""Weights to begin with: those of a bundle, for fine-tuning on a hospital's own patients."""

from __future__ import annotations

from rtuncertainty.bundles import bundle
from rtuncertainty.core.errors import InputError

from ..core import provenance


def begin_with(network, model: str, validation: dict[str, list[str]]) -> dict:
    """Copy the weights of the bundle `model` (a name or a folder) into `network`; what was copied is printed.

    `validation`: the cases on whom the run validates, with the hashes of their patients (`provenance.identities`).
    Returns whom the weights have seen before, and which ones they are: {seen, unknown} of `provenance.upstream`, and
    `weights_sha256`.

    Tensors of other names or shapes keep their random values: with other classes the heads differ, the trunk does not.
    Raises `SystemExit` for a bundle that cannot be used: none, an ensemble, another network, or one that was trained on
    patients on whom this run validates (told by their images; of cards that have only names, by these).
    """
    try:
        card, built = bundle.load(bundle.find(model))
    except InputError as error:
        raise SystemExit(f"initialise: {error}") from None
    if len(built) > 1:
        raise SystemExit(f"initialise: {model} is an ensemble of {len(built)} networks; name a bundle of one.")
    names = set(card["training"].get("case_names", []))
    seen = sorted(n for n, hashes in validation.items() if n in names or provenance.seen_checkpoints(card, hashes))
    if seen:
        raise SystemExit(
            f"initialise: {model} was trained on {', '.join(seen)}, on whom this run validates; "
            "choose the fold that it was trained with, or other weights."
        )
    theirs, ours = built[0].state_dict(), network.state_dict()
    fitting = {k: v for k, v in theirs.items() if k in ours and ours[k].shape == v.shape}
    if sum(v.numel() for v in fitting.values()) < 0.5 * sum(v.numel() for v in ours.values()):
        raise SystemExit(
            f"initialise: {model} is {card['architecture']['name']} {card['architecture']['arguments']}, of which less "
            "than half fits the network of this config; give it the same sizes."
        )
    network.load_state_dict(fitting, strict=False)
    new = sorted({k.rsplit(".", 1)[0] for k in ours.keys() - fitting.keys()})
    print(
        f"begins with the weights of {card['name']} {card['version']}" + (f"; new are {', '.join(new)}" if new else ""),
        flush=True,
    )
    return provenance.upstream(card) | {"weights_sha256": card["weights"]["sha256"]}
