"""A deformation that is the same whichever scan comes first."""

import numpy as np
import pytest
import torch
from make_pair import make_propagation_bundle

from rtuncertainty.bundles import bundle
from rtuncertainty.core.events import Progress
from rtuncertainty.deformation import compose_tensor, jacobian_tensor
from rtuncertainty.propagation import sampling, symmetric

SHAPE = (24, 28, 32)


def smooth(seed: int, size: float) -> torch.Tensor:
    """A velocity [1, 3, z, y, x] of at most `size` voxels, 0 at the faces."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.standard_normal((1, 3, 5, 5, 5)).astype(np.float32))
    small[:, :, [0, -1]] = small[:, :, :, [0, -1]] = small[..., [0, -1]] = 0
    found = torch.nn.functional.interpolate(small, size=SHAPE, mode="trilinear", align_corners=True)
    return size * found / found.abs().max()


def test_the_exponential_of_a_constant_is_the_constant():
    velocity = torch.zeros(1, 3, *SHAPE)
    velocity[:, 0], velocity[:, 2] = 3.0, -1.5
    assert torch.allclose(symmetric.exponential(velocity), velocity, atol=1e-4)
    assert not symmetric.exponential(torch.zeros(1, 3, *SHAPE)).any()


@pytest.mark.parametrize("size", [0.1, 1.0, 4.0])
def test_the_exponential_of_the_negative_is_the_inverse_and_nothing_folds(size):
    velocity = smooth(1, size)
    there, back = symmetric.exponential(velocity), symmetric.exponential(-velocity)
    assert compose_tensor(there, back).norm(dim=1).mean() < 0.01 * size
    assert jacobian_tensor(there).min() > 0


def test_a_known_flow():
    """dx/dt = a·x about the middle has the flow e^a·x."""
    a, x = 0.2, torch.arange(SHAPE[2], dtype=torch.float32) - 15.5
    velocity = torch.zeros(1, 3, *SHAPE)
    velocity[:, 0] = a * x
    inner = slice(8, 24)
    assert torch.allclose(symmetric.exponential(velocity)[0, 0, 12, 14, inner], (np.exp(a) - 1) * x[inner], atol=0.02)


def test_two_views_of_one_flow_give_it_back_and_their_common_error_cancels():
    velocity, error = smooth(2, 2.0), 0.3 * smooth(3, 1.0)
    there, back = symmetric.exponential(velocity), symmetric.exponential(-velocity)
    truth = there
    # what stands in both directions alike, such as a drift that the network adds to any pair
    found = symmetric.mean(there + error, back + error)
    assert (found - truth).norm(dim=1).mean() < 0.35 * error.norm(dim=1).mean()
    assert not symmetric.mean(error, error).any()


def test_the_structures_of_the_daily_scan_are_those_that_were_moved():
    volume = torch.zeros(1, 3, *SHAPE)
    volume[:, 0], volume[:, 1] = 1.0, 2.0
    volume[0, 2, 4:12, 6:14, 8:16], volume[0, 2, 14:20, 6:14, 8:16] = 0.5, 1.0  # labels 1 and 2 of 2
    shift = torch.zeros(1, 3, *SHAPE)
    shift[:, 0] = 3.0  # daily i is planning i + 3
    found = symmetric.swapped(volume, shift, 2)
    assert (found[:, 0] == 2).all() and (found[:, 1] == 1).all()
    assert torch.equal(found[0, 2, ..., 5:13], volume[0, 2, ..., 8:16]) and not found[0, 2, ..., 13:].any()
    assert symmetric.swapped(volume[:, :2], shift, 2).shape[1] == 2


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    network = bundle.load(make_propagation_bundle(tmp_path_factory.mktemp("model") / "test-propagation"))[1][0]
    with torch.no_grad():
        for p in network.registration_heads.parameters():
            p.mul_(3000)  # it has learnt nothing and would hardly move a voxel
    return network


def test_a_scan_and_itself_stand_still_and_swapping_gives_the_inverse(network):
    rng = np.random.default_rng(0)
    one, other = (torch.from_numpy(rng.standard_normal((1, 1, 44, 44, 44)).astype(np.float32)) for _ in range(2))
    none = torch.zeros_like(one)

    def displacement(fixed, moving, both_ways):
        # without structures both ways see the same third channel
        volume = torch.cat([fixed, moving, none], 1)[:, : network.in_channels]
        return sampling.run(network, volume, [0.0] * network.in_channels, 0, 0, Progress(), both_ways).displacement

    assert displacement(one, one, False).abs().max() > 1e-3 and not displacement(one, one, True).any()
    there, back = displacement(one, other, True), displacement(other, one, True)
    left = compose_tensor(there[None], back[None])[0]
    plain = compose_tensor(displacement(one, other, False)[None], displacement(other, one, False)[None])[0]
    assert left.abs().mean() < 0.05 * there.abs().mean() and left.abs().mean() < 0.1 * plain.abs().mean()
