"""UA-MT: an uncertainty-aware mean teacher (Yu 2019)."""

from __future__ import annotations

import copy

import torch

from . import loss
from .task import FewLabels

SAMPLES = 8
# of the noise that perturbs what the teacher sees: SD, and where it is cut
NOISE, LARGEST = 0.1, 0.2


class UAMT(FewLabels):
    """The V-Net learns from its labels, and on unlabelled crops to agree with a teacher, the moving average of itself
    (Yu 2019).

    The teacher sees other noise and other dropout. What counts are voxels in which the entropy of the mean of its 8
    dropout samples is small. The encoder runs once for all of them; in the published code each sample has its own noise
    and encoder pass besides.
    """

    def __init__(self, config):
        super().__init__(config)
        self.teacher = copy.deepcopy(self.network).requires_grad_(False)

    def further(self, out, batch):
        """The agreement with the teacher, see `FewLabels.further`."""
        unknown = ~batch["labelled"]
        image = batch["image"][unknown]
        progress = self.progress_made
        with torch.no_grad():
            seen = image + (torch.randn_like(image) * NOISE).clamp(-LARGEST, LARGEST)
            self.teacher.train()  # dropout on, statistics of the batch
            features = self.teacher.features(seen)
            samples = [self._sample(features) for _ in range(SAMPLES)]
            uncertainty = loss.uncertainty_of(samples)
        agreement = loss.mean_teacher(
            out.logits[unknown].float().softmax(1), samples[0], uncertainty, loss.threshold(progress, self.classes)
        )
        return {"consistency": agreement}, self.config.consistency_weight * loss.ramp(progress) * agreement

    def _sample(self, features):
        return self.teacher.head(self.teacher.decoder(features, self.teacher.drop)).float().softmax(1)

    def after_step(self, step):
        """The teacher follows, see `FewLabels.after_step`."""
        loss.follow(self.teacher, self.network, step, self.config.ema)
