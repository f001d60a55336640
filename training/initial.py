"""Weights to begin with: those of a bundle, for fine-tuning on a hospital's own patients."""

from __future__ import annotations

from rtbackend import bundle
from rtbackend.errors import InputError


def begin_with(network, model: str, training: list[str], validation: list[str]) -> None:
    """Copy the weights of the bundle `model` (a name or a folder) into `network`; what was copied is printed.

    Tensors of other names or shapes keep their random values: with other classes the heads differ, the trunk does not.
    Raises `SystemExit` for a bundle that cannot be used: none, an ensemble, another network, or one that was trained on
    patients on whom this run validates (told by their names).
    """
    try:
        card, built = bundle.load(bundle.find(model))
    except InputError as error:
        raise SystemExit(f"initialise: {error}") from None
    if len(built) > 1:
        raise SystemExit(f"initialise: {model} is an ensemble of {len(built)} networks; name a bundle of one.")
    seen = sorted(set(card["training"].get("case_names", [])) & set(validation))
    if seen:
        raise SystemExit(f"initialise: {model} was trained on {', '.join(seen)}, on whom this run validates; "
                         "choose the fold that it was trained with, or other weights.")
    theirs, ours = built[0].state_dict(), network.state_dict()
    fitting = {k: v for k, v in theirs.items() if k in ours and ours[k].shape == v.shape}
    if sum(v.numel() for v in fitting.values()) < 0.5 * sum(v.numel() for v in ours.values()):
        raise SystemExit(f"initialise: {model} is {card['architecture']['name']} {card['architecture']['arguments']}, of which less "
                         "than half fits the network of this config; give it the same sizes.")
    network.load_state_dict(fitting, strict=False)
    new = sorted({k.rsplit(".", 1)[0] for k in ours.keys() - fitting.keys()})
    print(f"begins with the weights of {card['name']} {card['version']}" + (f"; new are {', '.join(new)}" if new else ""), flush=True)
