"""Tiles, determinism and running out of memory."""

import numpy as np
import pytest
import torch

from rtuncertainty import networks
from rtuncertainty.core.errors import Cancelled, InputError, OutOfMemoryError
from rtuncertainty.core.events import CancelToken, Progress
from rtuncertainty.sampling import inference, tiling

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(3)
    m4 = networks.build("m4", classes=3, width=4, features=8, branch_width=6)
    for _ in range(3):
        m4.train()(torch.randn(2, 1, 24, 24))
    return m4.eval()


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).standard_normal((3, 50, 61)).astype(np.float32)


@pytest.mark.parametrize(
    "length,tile,overlap", [(100, 40, 13), (41, 40, 13), (40, 40, 13), (500, 48, 16), (49, 48, 16)]
)
def test_tiles_cover_everything_and_weights_are_smooth(length, tile, overlap):
    starts = tiling.tile_starts(length, tile, overlap)
    total = np.zeros(length)
    for s in starts:
        size = min(tile, length)
        weight = tiling.ramp(length, s, size, overlap)
        assert weight.min() > 0 and len(weight) == size and s + size <= length
        total[s : s + size] += weight
    assert total.min() > 0.4 and starts[0] == 0 and starts[-1] + min(tile, length) == length


def test_tiles_change_nothing_but_the_masks(net, volume):
    """The heads' mean over many samples is the same whether the slice is tiled or whole."""
    one = volume[:1]
    whole = inference.run([net], one, 100, 0, CPU, Progress(), tiles=(100,))[0]
    tiled = inference.run([net], one, 100, 0, CPU, Progress(), tiles=(32,))[0]
    error = (whole.mean - tiled.mean) / (whole.parameter / 50).sqrt()
    assert error.std() < 1.6 and abs(error.mean()) < 0.1


def test_same_seed_same_result_and_another_seed_another(net, volume):
    a, b, c = (inference.run([net], volume, 4, s, CPU, Progress())[0].stacked() for s in (5, 5, 6))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_out_of_memory_takes_smaller_tiles_and_tells(net, volume, monkeypatch):
    real, tried = inference._volume, []

    def greedy(networks, volume, samples, seed, device, tile, progress):
        tried.append(tile)
        if tile > 48:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(networks, volume, samples, seed, device, tile, progress)

    monkeypatch.setattr(inference, "_volume", greedy)
    progress = Progress()
    _, where, tile = inference.run([net], volume, 2, 0, CPU, progress)
    assert tried == [384, 192, 96, 48] and tile == 48 and where.type == "cpu"
    assert len(progress.notes) == 3 and "smaller" not in progress.notes[0] and "192" in progress.notes[0]


def test_out_of_memory_everywhere_is_its_own_error(net, volume, monkeypatch):
    def never(*_):
        raise MemoryError

    monkeypatch.setattr(inference, "_volume", never)
    with pytest.raises(OutOfMemoryError, match="fewer voxels"):
        inference.run([net], volume, 2, 0, CPU, Progress())


def test_other_errors_are_not_taken_for_memory(net, volume, monkeypatch):
    def broken(*_):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(inference, "_volume", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        inference.run([net], volume, 2, 0, CPU, Progress())


def test_cancel_ends_the_sampling(net, volume):
    token, seen = CancelToken(), []

    def listener(event):
        seen.append(event)
        if len(seen) == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        inference.run([net], volume, 40, 0, CPU, Progress(listener, token))
    assert len(seen) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_missing_gpu_is_told():
    with pytest.raises(InputError, match="0 CUDA GPUs"):
        inference.choose_device("cuda")
    assert inference.choose_device("auto").type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "mps", ""])
def test_unknown_devices_are_told(name):
    with pytest.raises(InputError, match="device"):
        inference.choose_device(name)


def test_an_event_that_says_nothing_new_is_not_repeated():
    told = []
    progress = Progress(told.append)
    for fraction in (0.0, 0.5, 0.5, 0.5, 0.6):
        progress.stage("preprocess", fraction, "Correcting the bias field (N4)")
    assert [e["fraction"] for e in told] == [0.0, 0.5, 0.6]
    progress.cancel.cancel()
    with pytest.raises(Cancelled):
        progress.stage("preprocess", 0.6, "Correcting the bias field (N4)")
