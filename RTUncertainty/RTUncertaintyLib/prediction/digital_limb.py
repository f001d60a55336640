"""The digital limb as sample data: made on the spot by the backend, no download."""

from ..widgets.text import _

NAMES = (_("DigitalLimbMR"), _("DigitalLimbCT"))


def load_digital_limb(source=None, seed: int = 0) -> list:
    """Add the T1-like MR and the true CT of a digital limb to the scene; returns both volume nodes.

    `source` is what the Sample Data module passes to a custom downloader; it is not needed.
    """
    import numpy as np
    import slicer.util
    from rtuncertainty.phantoms.limb import digital_limb

    limb, nodes = digital_limb(seed), []
    for image, name in zip((limb.mr, limb.ct), NAMES):
        import SimpleITK as sitk

        direction = np.array(image.GetDirection()).reshape(3, 3)
        matrix = np.eye(4)
        matrix[:3, :3] = direction * np.array(image.GetSpacing())
        matrix[:3, 3] = image.GetOrigin()
        matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix
        node = slicer.util.addVolumeFromArray(sitk.GetArrayFromImage(image), ijkToRAS=matrix,
                                              name=slicer.mrmlScene.GenerateUniqueName(name))
        nodes.append(node)
    return nodes
