"""What a result says of a model that is not ours: its name and version, and that nothing of it was checked."""

from __future__ import annotations

UNKNOWN_TOOL, UNKNOWN_VERSION = "unknown tool", "unknown version"


def card_of(tool: str, version: str, modality: str, outputs: dict) -> dict:
    """A card without accuracy, training or calibration, which are not known here.

    Args:
        tool: name of the model; empty where it is not known.
        version: of it; empty where it is not known.
        modality: of the input, CT or MR.
        outputs: "synct", "deformation", "structures".

    Returns:
        A card as `bundles` reads them, but without weights.
    """
    return {
        "format": 1,
        "name": tool or UNKNOWN_TOOL,
        "version": version or UNKNOWN_VERSION,
        "title": tool or UNKNOWN_TOOL,
        "task": "another tool's model, whose results were collected",
        "architecture": {"name": "not known here", "arguments": {}},
        "input": {"modality": modality},
        "outputs": {"structures": [], **outputs},
        "dropout": {"p": 0.0},
        "training": {},
        "accuracy": {},
        "calibration": {},
        "intended_use": "This model is not one of RTUncertainty's: nothing of it was measured or calibrated here.",
        "licence": "that of the tool",
        "weights": {},
    }
