"""The losses of learning from few labels: V-Net, UA-MT (Yu 2019), SASSNet (Li 2020), MT-CTL (Hasan & Linte 2021).

Probabilities and logits [n, K, z, y, x], labels [n, z, y, x] (int64), distance maps [n, 1, z, y, x] in −1 … 1, negative
inside. All is computed in single precision, whatever the network runs in.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from rtuncertainty.networks.uncertainty import entropy

# π⁻¹(z) = sigmoid(−STEEPNESS·z)
STEEPNESS = 1500.0
# of the Geman-McClure loss (Sec. 2)
BETA = 0.5
# voxels with an uncertainty beyond this share of ln 2 guide nothing: at the start and what is added until the end (Yu
# 2019, Sec. 2.3)
THRESHOLD = (0.75, 0.25)


def supervised(logits, labels, printed: bool = False):
    """½ (cross-entropy + Dice loss of the foreground), as Yu 2019 weighs them; Hasan 2021 has the Dice loss alone
    (`L_seg`).

    Args:
        logits: see the module.
        labels: see the module.
        printed: as Hasan 2021.

    Returns:
        A scalar.
    """
    logits = logits.float()
    if printed:
        return dice_loss(logits.softmax(1), labels)
    return (F.cross_entropy(logits, labels) + dice_loss(logits.softmax(1), labels)) / 2


def dice_loss(probabilities, labels):
    """1 − 2Σpy / (Σp + Σy), over the whole batch, mean over the classes without background (Hasan 2021, `L_seg`).

    Of a class that the batch lacks it is Σp / (Σp + 1), so that there is no division by nothing.

    Args:
        probabilities: see the module.
        labels: see the module.

    Returns:
        A scalar.
    """
    p, y = probabilities[:, 1:], F.one_hot(labels, probabilities.shape[1]).movedim(-1, 1)[:, 1:].to(probabilities.dtype)
    axes = (0, 2, 3, 4)
    size, true = p.sum(axes) + y.sum(axes), y.sum(axes)
    return torch.where(
        true > 0, 1 - 2 * (p * y).sum(axes) / size.clamp_min(1e-6), p.sum(axes) / (p.sum(axes) + 1)
    ).mean()


def to_probability(distance):
    """π⁻¹(z) = sigmoid(−1500·z): the probability of the foreground that a signed distance map stands for (Hasan 2021,
    Sec. 2).

    The paper prints 1 / (1 + e^(−k·z)), which with distances negative inside would be the background.

    Args:
        distance: [n, 1, z, y, x].

    Returns:
        The same shape, 0 to 1.
    """
    return torch.sigmoid(-STEEPNESS * distance.float())


def distance_loss(found, truth):
    """Mean squared error of the distance map (Hasan 2021, `L_dis`).

    Args:
        found: [n, 1, z, y, x].
        truth: [n, 1, z, y, x].

    Returns:
        A scalar.
    """
    return F.mse_loss(found.float(), truth.float())


def cross_task(probabilities, distance):
    """Mean of ‖f1 − π⁻¹(f2)‖² over the voxels, foreground against foreground (Hasan 2021, `L_cross-task`).

    Args:
        probabilities: see the module.
        distance: see the module.

    Returns:
        A scalar.
    """
    return ((probabilities[:, 1:].float().sum(1, keepdim=True) - to_probability(distance)) ** 2).mean()


def guided(squared, uncertainty, threshold: float):
    """Σ [U < t]·squared / Σ [U < t] (Hasan 2021, `L_G`; Yu 2019).

    Args:
        squared: [n, 1, z, y, x].
        uncertainty: U, nats, of that shape.
        threshold: t, nats.

    Returns:
        A scalar; 0 where no voxel is that sure.
    """
    sure = (uncertainty < threshold).to(squared.dtype)
    return (sure * squared).sum() / sure.sum().clamp_min(1.0)


def guidance(probabilities, distance, uncertainty, threshold: float):
    """`cross_task` of the voxels of which the network is sure (Hasan 2021, `L_G`).

    Args:
        probabilities: see the module.
        distance: see the module.
        uncertainty: [n, 1, z, y, x], nats.
        threshold: nats.

    Returns:
        A scalar.
    """
    squared = (probabilities[:, 1:].float().sum(1, keepdim=True) - to_probability(distance)) ** 2
    return guided(squared, uncertainty, threshold)


def uncertainty_of(samples, printed: bool = False):
    """The entropy of the mean of several predictions (Yu 2019; Hasan 2021 prints the mean of the entropies).

    Args:
        samples: an iterable of probabilities [n, K, z, y, x].
        printed: as Hasan 2021 (Sec. 2, U(x)), which is never larger.

    Returns:
        [n, 1, z, y, x], nats.
    """
    total, count = 0.0, 0
    for sample in samples:
        total, count = total + (entropy(sample.float()) if printed else sample.float()), count + 1
    return total / count if printed else entropy(total / count)


def threshold(progress: float, classes: int = 2) -> float:
    """The largest uncertainty that guides, (0.75 + 0.25·ramp)·ln K (Yu 2019).

    Args:
        progress: of the training, 0 … 1.
        classes: K.

    Returns:
        nats.
    """
    return (THRESHOLD[0] + THRESHOLD[1] * ramp(progress)) * math.log(classes)


def ramp(progress: float) -> float:
    """exp(−5·(1 − t)²), the weight of what unlabelled scans teach (Laine & Aila 2017).

    Args:
        progress: t, 0 … 1.

    Returns:
        0.0067 to 1.
    """
    return math.exp(-5.0 * (1.0 - min(1.0, max(0.0, progress))) ** 2)


def mean_teacher(student, teacher, uncertainty, threshold: float):
    """Squared difference of two predictions' probabilities where the teacher is sure, mean over classes (Yu 2019, Eq.
    4).

    Args:
        student: probabilities [n, K, z, y, x].
        teacher: of the same shape.
        uncertainty: the teacher's, [n, 1, z, y, x], nats.
        threshold: nats.

    Returns:
        A scalar.
    """
    squared = ((student.float() - teacher.float()) ** 2).mean(1, keepdim=True)
    return guided(squared, uncertainty, threshold)


def geman_mcclure(labelled, unlabelled, beta: float = BETA):
    """(a² + b²) / (2β + a² + b²) with the mean squares of two scores (Hasan 2021, Eq. 1).

    The discriminator minimises it with a = D(labelled) and b = D(unlabelled) − 1, as printed; the network that segments
    with b = D(unlabelled), so that what it makes of unlabelled scans is taken for that of labelled ones.

    Args:
        labelled: a, [n].
        unlabelled: b, [n].
        beta: β.

    Returns:
        A scalar.
    """
    squares = (labelled.float() ** 2).mean() + (unlabelled.float() ** 2).mean()
    return squares / (2 * beta + squares)


def real_or_not(score, labelled: bool):
    """Cross-entropy of the discriminator's score as a logit of "labelled" (Li 2020, SASSNet).

    Args:
        score: [n].
        labelled: what it should say.

    Returns:
        A scalar.
    """
    return F.binary_cross_entropy_with_logits(score.float(), torch.full_like(score.float(), float(labelled)))


@torch.no_grad()
def follow(teacher: torch.nn.Module, student: torch.nn.Module, step: int, decay: float) -> None:
    """Moves the teacher's parameters towards the student's: θ' ← αθ' + (1 − α)θ with α = min(1 − 1/(step + 1), decay)
    (Yu 2019).

    The small α of the first steps make the teacher forget its random beginning. Running statistics are the teacher's
    own.

    Args:
        teacher: changed in place.
        student: of the same architecture.
        step: from 0.
        decay: the largest α.
    """
    alpha = min(1 - 1 / (step + 1), decay)
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.mul_(alpha).add_(theirs.detach(), alpha=1 - alpha)
