"""A model's card in plain words, as rich text for the panel."""

from __future__ import annotations

from html import escape

from rtuncertainty.bundles import bundle

from .text import _


def title(card: dict) -> str:
    """The model's name for people; a model that has seen no patient says so at its front, which a narrow list shows."""
    return (
        _("Trained on a digital phantom only: {title}").format(title=card["title"])
        if on_phantom(card)
        else card["title"]
    )


def on_phantom(card: dict) -> bool:
    """Whether the model has seen digital phantoms and no patient."""
    return bool(card.get("training", {}).get("phantom"))


def summary(card: dict) -> str:
    """One line: what goes in and for which region."""
    given = card["input"]
    words = [given.get("sequence") or "", given.get("modality") or "", _("of the"), given.get("region") or ""]
    if not given.get("region"):
        words = words[:2]
    return escape(" ".join(w for w in words if w))


def card_html(card: dict) -> str:
    """The whole card: intended use first, then input and output, training, accuracy, calibration, licence."""
    training = card.get("training", {})
    rows = [
        (_("Input"), summary(card)),
        (_("Output"), escape(_outputs(card))),
        (_("Voxels"), escape(_voxels(card))),
        (_("Trained on"), escape(_training(training))),
        (_("Measured on"), escape(_measured(card.get("accuracy", {})))),
        (_("Accuracy"), _accuracy(card.get("accuracy", {}))),
        (_("Error bars"), escape(calibration_words(card))),
        (_("Licence"), escape(_licence(card))),
        (_("Version"), escape(f"{card['name']} {card['version']}")),
    ]
    body = "".join(
        f'<tr><td style="padding-right: 10px; color: gray">{name}</td><td>{text}</td></tr>'
        for name, text in rows
        if text
    )
    warning = _("Trained on a digital phantom only: it has never seen a patient.") if on_phantom(card) else ""
    use = card.get("intended_use") or _("Research use only.")
    return "".join(f"<p><b>{escape(words)}</b></p>" for words in (warning, use) if words) + f"<table>{body}</table>"


def _outputs(card) -> str:
    names = [s["name"] for s in card["outputs"].get("structures", [])]
    if "deformation" in card["outputs"]:
        moved = _("deformation, by which every planning structure moves")
        if not bundle.deforms(card):
            return _("contours of {names} on the daily scan; it deforms nothing").format(names=", ".join(names))
        return (
            _("{moved}; contours of its own for {names}").format(moved=moved, names=", ".join(names))
            if names
            else moved
        )
    parts = [_("synthetic CT (HU)")] if "synct" in card["outputs"] else []
    return ", ".join([*parts, *names])


def _voxels(card) -> str:
    limits = card["input"].get("spacing_range_mm")
    if not limits:
        return ""
    low, high = (" × ".join(f"{v:g}" for v in bound) for bound in limits)
    return _("{low} to {high} mm").format(low=low, high=high)


def _training(training) -> str:
    count = training.get("cases")
    parts = []
    if count is not None:
        parts.append(
            _("{count} digital phantoms, no patient").format(count=count)
            if training.get("phantom")
            else _("{count} patients").format(count=count)
        )
    return ", ".join([*parts, *([training["data"]] if training.get("data") else [])])


def _measured(accuracy) -> str:
    if not accuracy.get("table"):
        return _("not measured")
    count = accuracy.get("n")
    cases = accuracy.get("cases") or ""
    cases = cases if isinstance(cases, str) else ", ".join(map(str, cases))
    if not count or cases.startswith(f"{count} "):
        return cases
    return _("{count} cases that it was not trained on").format(count=count) + (f": {cases}" if cases else "")


def _accuracy(accuracy) -> str:
    rows = "".join(
        f'<tr><td style="padding-right: 10px">{escape(str(name))}</td><td '
        f'align="right">{escape(_number(value))}</td></tr>'
        for name, value in accuracy.get("table", {}).items()
    )
    return f"<table>{rows}</table>" if rows else ""


def _number(value) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def calibration_words(card: dict) -> str:
    """How far the error bars of this model can be trusted, as measured; "not calibrated" when they were never
    checked.
    """
    calibration = card.get("calibration") or {}
    synct, volumes = calibration.get("synct"), calibration.get("volumes")
    parts = []
    if "synct" in card["outputs"]:
        if synct and isinstance(synct.get("z_sd"), (int, float)):
            words = _("synthetic CT checked on {n} cases, z-score SD {sd:.2f} (1 is ideal)")
            if synct.get("recalibrated"):
                words = _(
                    "synthetic CT recalibrated on {n} cases; checked on each with a fit on the others, z-score SD "
                    "{sd:.2f} (1 is ideal)"
                )
            parts.append(words.format(n=synct.get("n", "?"), sd=synct["z_sd"]))
            if isinstance(synct.get("within_90"), (int, float)):
                parts.append(
                    _("90 % intervals held {share:.0f} % of the voxels").format(share=100 * synct["within_90"])
                )
        else:
            parts.append(_("synthetic CT not calibrated"))
    if "deformation" in card["outputs"] and bundle.deforms(card):
        spread = calibration.get("spread") or {}
        if isinstance(spread.get("left_out_within_90"), (int, float)):
            parts.append(
                _(
                    "spread of the deformation calibrated on {n} patients; 90 % intervals held {share:.0f} % of the "
                    "errors of those left out"
                ).format(n=spread.get("patients", "?"), share=100 * spread["left_out_within_90"])
            )
        else:
            parts.append(_("spread of the deformation not calibrated"))
    if card["outputs"].get("structures"):
        parts.append(_("volumes calibrated") if volumes else _("volumes not calibrated"))
        quality = calibration.get("quality")
        if quality:
            parts.append(
                _("expected Dice calibrated on {n} patients, its interval is that of {level:.0f} %").format(
                    n=quality.get("patients", "?"), level=100 * quality.get("level", 0.9)
                )
            )
    return "; ".join(parts)


def _licence(card) -> str:
    data = card.get("training", {}).get("licence")
    own = card.get("licence") or ""
    return _("{model}; training data {data}").format(model=own, data=data) if data else own
