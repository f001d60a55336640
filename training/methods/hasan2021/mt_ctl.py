"""MT-CTL: multi-task cross-task learning (Hasan & Linte 2021), each of its parts to be switched off."""

from __future__ import annotations

import torch

from rtuncertainty import networks
from rtuncertainty.networks.vnet import VNetOutput

from . import loss
from .sassnet import Adversarial
from .ua_mt import SAMPLES


class MTCTLTask(Adversarial):
    """Segmentation and distance map on one encoder, and the parts of the setting `parts`, all of them by default (Hasan
    & Linte 2021, Sec. 2):

    - cross_task: both agree, on all crops (`L_cross-task`);
    - guidance: they agree where 8 dropout samples of the uncertainty decoder are sure (`L_G`). That decoder learns to
      segment from the labels, with dropout; the paper names it without saying what it learns. Without this part it is
      not built;
    - adversarial: the discriminator, Geman-McClure (Eq. 1); it sees the maps that were predicted, of both kinds of
      crop, as in SASSNet;
    - auxiliary: the fourth decoder, which the paper draws and does not describe. As in cross-consistency training
      (Ouali 2020, the paper's reference 4) it segments from perturbed features, learns from the labels too, and on all
      crops is to agree with the main decoder. The perturbation is dropout of channels.

    The consistency terms are weighed by `consistency_weight` and the ramp, as in UA-MT.

    Args:
        config: `Hasan2021`.
    """

    def __init__(self, config):
        super().__init__(config)
        if config.adversarial:
            self.add_adversary("geman-mcclure")

    @property
    def parts(self):
        """The parts that are trained."""
        return self.config.parts_trained

    def build_network(self):
        """The `mt_ctl` with the decoders that the parts need."""
        decoders = [
            "distance",
            *(["uncertainty"] if "guidance" in self.parts else []),
            *(["auxiliary"] if "auxiliary" in self.parts else []),
        ]
        return networks.build("mt_ctl", **self.config.arguments, decoders=decoders)

    def run_network(self, batch) -> VNetOutput:
        """What all decoders give; the encoder's features are kept for the samples."""
        features = self.network.features(batch["image"])
        self.seen = tuple(f.detach() for f in features)  # for the samples: the encoder runs once
        return self.network.decode(features)

    def further(self, out, batch):
        """The terms of the parts and their weighted sum, see `FewLabels.further`."""
        known, progress = batch["labelled"], self.progress_made
        p = out.logits.float().softmax(1)
        consistency = {}
        if "cross_task" in self.parts:
            consistency["cross_task"] = loss.cross_task(p, out.distance)
        if "guidance" in self.parts:
            with torch.no_grad():
                uncertainty = loss.uncertainty_of(
                    (self.network.sample(self.seen) for _ in range(SAMPLES)), self.printed
                )
            consistency["guidance"] = loss.guidance(
                p, out.distance, uncertainty, loss.threshold(progress, self.classes)
            )
        if "auxiliary" in self.parts:
            consistency["auxiliary"] = ((out.auxiliary.float().softmax(1) - p.detach()) ** 2).mean()
        weighted = self.config.consistency_weight * loss.ramp(progress) * sum(consistency.values())
        terms = dict(consistency)
        for name in ("uncertainty", "auxiliary"):  # decoders that learn from the labels as the main one does
            logits = getattr(out, name)
            if logits is not None:
                terms[f"supervised_{name}"] = loss.supervised(logits[known], batch["labels"][known], self.printed)
                weighted = weighted + terms[f"supervised_{name}"]
        if self.adversary is not None:
            term, value = self.fooling(out, batch)
            terms, weighted = terms | term, weighted + value
        return terms, weighted
