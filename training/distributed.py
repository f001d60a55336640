"""Sums over all processes of a run, so that several processes compute just what one with the whole batch would.

DistributedDataParallel averages the gradients of per-process losses, which is the gradient of the whole batch's loss only
if that loss is a mean over equal parts. Ours are ratios of sums over voxels that count, and batch normalisation is a ratio
too. Both take their sums here. torch's SyncBatchNorm works on GPUs only.
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
    """`value` summed over all processes, differentiable; `value` itself in a run of one process."""
    return _Total.apply(value) if is_distributed() else value


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, on any device."""

    def forward(self, x):
        if not (self.training and is_distributed()):
            return super().forward(x)
        count = total(x.new_tensor(float(x.shape[0] * x.shape[2] * x.shape[3])))
        mean = total(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = total((centred**2).sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1), share)
        scale = self.weight / torch.sqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]


def use_global_batch_norm(network: nn.Module, on: bool = True) -> None:
    """Let every `BatchNorm2d` of `network` normalise over all processes, or (`on` False) over its own again."""
    kinds = (nn.BatchNorm2d, GlobalBatchNorm2d)
    for module in network.modules():
        if type(module) is kinds[not on]:
            module.__class__ = kinds[on]
