"""Sums over all processes of a run, so that several processes compute just what one with the whole batch would.

DistributedDataParallel averages the gradients of per-process losses, which is the gradient of the whole batch's loss
only if that loss is a mean over equal parts. Ours are ratios of sums over voxels that count, and batch normalisation is
a ratio too. Both take their sums here. torch's SyncBatchNorm works on GPUs only.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx, gradient):
        # every process holds the same loss: the sum over processes is undone by the average that DDP takes
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


def is_distributed() -> bool:
    """Whether there is more than one process in this run."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def total(value: torch.Tensor) -> torch.Tensor:
    """A sum over all processes, differentiable.

    Args:
        value: of this process, any shape.

    Returns:
        The same shape; `value` itself in a run of one process.
    """
    return _Total.apply(value) if is_distributed() else value


class _Global:
    """Batch normalisation over the batches of all processes, on any device."""

    def forward(self, x):
        if not (self.training and is_distributed()):
            return super().forward(x)
        axes, shape = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
        count = total(x.new_tensor(float(x.numel() // x.shape[1])))
        mean = total(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = total((centred**2).sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1), share)
        scale = self.weight / torch.sqrt(variance + self.eps)
        return centred * scale.view(shape) + self.bias.view(shape)


class GlobalBatchNorm2d(_Global, nn.BatchNorm2d):
    """See `_Global`."""


class GlobalBatchNorm3d(_Global, nn.BatchNorm3d):
    """See `_Global`."""


GLOBAL = {nn.BatchNorm2d: GlobalBatchNorm2d, nn.BatchNorm3d: GlobalBatchNorm3d}


def use_global_batch_norm(network: nn.Module, on: bool = True) -> None:
    """Lets every batch normalisation of a network work over all processes, or over its own again.

    Args:
        network: changed in place.
        on: over all.
    """
    swap = GLOBAL if on else {theirs: own for own, theirs in GLOBAL.items()}
    for module in network.modules():
        if type(module) in swap:
            module.__class__ = swap[type(module)]
