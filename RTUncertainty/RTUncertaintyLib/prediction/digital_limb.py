"""The digital limb as sample data: made on the spot by the backend, no download."""

from ..widgets.text import _

NAMES = (_("DigitalLimbMR"), _("DigitalLimbCT"))


def load_digital_limb(source=None, seed: int = 0) -> list:
    """Add the T1-like MR and the true CT of a digital limb to the scene; returns both volume nodes.

    `source` is what the Sample Data module passes to a custom downloader; it is not needed.
    """
    import slicer

    from rtuncertainty.phantoms.limb import digital_limb

    from ..mrml.volumes import add_volume

    limb, scene = digital_limb(seed), slicer.mrmlScene
    return [add_volume(scene, image, scene.GenerateUniqueName(name)) for image, name in zip((limb.mr, limb.ct), NAMES)]
