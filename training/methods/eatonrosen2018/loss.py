"""Losses of segmentation where some organs were not drawn: those are unknown, not background (Eaton-Rosen 2018 for the
noise).

logits [n, K, z, y, x], background first; labels [n, z, y, x] (int64); present [n, K − 1]: 1 where the organ was drawn
in this patient; known [n, z, y, x]: 1 where a voxel counts.
"""

from __future__ import annotations

import math

import torch

from ..bragman2018.loss import weighted_mean
from ..elmahdy2021.loss import ABSENT, one_hot, overlap_loss


def log_likelihood(log_p, labels, present):
    """The logarithm of the probability of what was drawn in each voxel.

    Where nothing was drawn there is background or any organ that was not drawn in this patient, so their probabilities
    add up.

    Args:
        log_p: log probabilities [n, K, z, y, x].
        labels: see the module.
        present: see the module.

    Returns:
        [n, z, y, x].
    """
    absent = torch.cat([torch.zeros_like(present[:, :1]), 1 - present], 1) > 0
    background = log_p[:, 0]
    if absent.any():
        others = torch.cat([~absent[:, :1], absent[:, 1:]], 1)[..., None, None, None]
        background = log_p.masked_fill(~others, -math.inf).logsumexp(1)
    return torch.where(labels == 0, background, log_p.gather(1, labels[:, None])[:, 0])


def cross_entropy(logits, labels, present, known):
    """−mean log likelihood over the voxels that count.

    Args:
        logits: see the module.
        labels: see the module.
        present: see the module.
        known: see the module.

    Returns:
        (a scalar, class probabilities [n, K, z, y, x]).
    """
    log_p = logits.float().log_softmax(1)
    return -weighted_mean(log_likelihood(log_p, labels, present), known), log_p.exp()


def heteroscedastic(logits, sd, labels, present, known, samples: int):
    """−mean[logsumexp_t log p_t − log T] of T noisy logits f + σ·ε_t (Eaton-Rosen 2018, Sec. 2.1, without its misprint:
    the sum over t holds probabilities, log_softmax their logarithms).

    Noise goes into logits before the softmax, so nothing of it is ever added to a variance of probabilities.

    Args:
        logits: see the module.
        labels: see the module.
        present: see the module.
        known: see the module.
        sd: σ, [n, 1, z, y, x]; the noise is drawn for each class from torch's own generator.
        samples: T.

    Returns:
        (a scalar, mean class probabilities [n, K, z, y, x]).
    """
    logits, sd = logits.float(), sd.float()
    found, mean = [], 0.0
    for _ in range(samples):
        log_p = (logits + sd * torch.randn_like(logits)).log_softmax(1)
        found.append(log_likelihood(log_p, labels, present))
        mean = mean + log_p.exp() / samples
    return -weighted_mean(torch.stack(found).logsumexp(0) - math.log(samples), known), mean


def dice(probabilities, labels, present, known):
    """1 − Dice of the organs that were drawn; see `elmahdy2021.loss.overlap_loss`.

    Args:
        probabilities: [n, K, z, y, x].
        labels: see the module.
        present: see the module.
        known: see the module.

    Returns:
        A scalar.
    """
    truth = one_hot(labels, probabilities.shape[1])
    return overlap_loss(probabilities[:, 1:], truth, present, known[:, None], ABSENT)
