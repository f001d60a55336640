"""The joint networks: sizes as printed, levels centred on the input, tiles without seams, dropout samples."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rtuncertainty import networks
from rtuncertainty.core.errors import InputError
from rtuncertainty.networks import elmahdy2021, joint_blocks
from rtuncertainty.sampling import joint_tiling

NAMES = ("seg", "reg", "jrs_reg", "dense", "sedd", "cross_stitch")
SMALL = (2, 3, 4)


def count(module):
    return sum(p.numel() for p in module.parameters())


def small(name, widths=SMALL, **arguments):
    torch.manual_seed(0)
    net = networks.build(name, widths=widths, **arguments)
    for parameter in net.parameters():  # N(0, 0.02) through so few channels would leave nothing to compare
        if parameter.ndim == 5:
            torch.nn.init.normal_(parameter, 0, 0.3)
    return net.eval().double()


def averaging(net):
    """Every layer a mean over its window and channels, so that a linear image passes unchanged."""
    for module in net.modules():
        if isinstance(module, torch.nn.Conv3d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            torch.nn.init.zeros_(module.bias)
        elif isinstance(module, torch.nn.BatchNorm3d):
            module.running_var.fill_(1 - module.eps)
        elif isinstance(module, joint_blocks.CrossStitch):
            torch.nn.init.constant_(module.weight, 0.5)
    return net


def outputs(out):
    return [level for levels in out if levels is not None for level in levels]


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("seg", 779_436),
        ("reg", 779_733),
        ("jrs_reg", 779_733),
        ("dense", 781_164),
        ("sedd", 722_936),
        ("cross_stitch", 779_000 + 576),
    ],
)
def test_parameters_are_as_printed(name, parameters):
    net = networks.build(name)
    assert count(net) == parameters
    if name == "cross_stitch":
        assert count(net.stitches) == 576


@pytest.mark.parametrize("name", NAMES)
def test_outputs_have_the_papers_sizes_and_channels(name):
    out = networks.build(name, widths=SMALL).eval()(torch.rand(1, 3, 96, 44, 60))
    edges = [(56, 4, 20), (30, 4, 12), (17, 4, 8)]
    assert (out.logits is None) == (name in ("reg", "jrs_reg")) and (out.displacement is None) == (name == "seg")
    for levels, channels in ((out.logits, 5), (out.displacement, 3)):
        assert levels is None or [tuple(x.shape) for x in levels] == [(1, channels, *edge) for edge in edges]


def test_units_are_convolution_leaky_relu_and_normalisation():
    torch.manual_seed(0)
    unit = joint_blocks.Unit(40, 50).eval()
    assert unit[0].weight.std().item() == pytest.approx(0.02, rel=0.02) and not unit[0].bias.any()
    x = torch.randn(1, 40, 5, 5, 5)
    expected = torch.nn.functional.leaky_relu(torch.nn.functional.conv3d(x, unit[0].weight), 0.2) / (1 + 1e-3) ** 0.5
    assert torch.allclose(unit(x), expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_level_is_centred_on_the_input(name):
    """Coordinates that go through layers that average come out as the coordinates at which `crop_to_level` takes the
    truth.
    """
    net = averaging(small(name, widths=(1, 1, 1)))
    z, y, x = torch.meshgrid(*[torch.arange(float(n), dtype=torch.float64) for n in (52, 56, 64)], indexing="ij")
    ramp = x + 100 * y + 10_000 * z + 1
    for levels in net(ramp.expand(1, 3, *ramp.shape)):
        for number, found in enumerate(levels or []):
            truth = elmahdy2021.crop_to_level(ramp, number)
            assert found.shape[2:] == truth.shape
            # the outermost voxels see the padding of the strided layers: 4, 2 and 1 voxels
            inner = (..., *[slice(4 >> number, -(4 >> number))] * 3)
            assert torch.allclose(found[inner], truth[inner].expand_as(found[inner]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "sedd", "cross_stitch"])
def test_what_an_output_voxel_sees_is_symmetric_about_its_place(name):
    net = averaging(small(name, widths=(1, 1, 1)))
    x = torch.rand(1, 3, 52, 52, 52, dtype=torch.float64, requires_grad=True)
    out = net(x)
    for level, index in enumerate((6, 4, 3)):
        crop, stride = elmahdy2021.LEVELS[level]
        assert crop + stride * index == 26
        at = out.logits[level][0, 1, index, index, index] + out.displacement[level][0, 2, index, index, index]
        seen = torch.autograd.grad(at, x, retain_graph=True)[0][0].sum(0)
        assert seen.sum().item() == pytest.approx(2.0) and seen.min() >= 0
        inside = seen[1:, 1:, 1:]  # of which input voxel 26 is the middle
        for axis in range(3):
            assert torch.allclose(inside, inside.flip(axis), rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(38, 57)] * 3))
def test_sizes_that_fit_are_the_multiples_of_4_from_44(shape):
    net, x = networks.build("dense", widths=(1, 1, 1)).eval(), torch.zeros(1, 3, *shape)
    if all(n % 4 == 0 and n >= 44 for n in shape):
        with torch.inference_mode():
            out = net(x)
        for level in range(3):
            assert out.logits[level].shape[2:] == elmahdy2021.crop_to_level(x, level).shape[2:]
    else:
        with pytest.raises(ValueError, match="multiple of 4 and at least 44"):
            net(x)
        with pytest.raises(RuntimeError):  # and without the check it would not run
            net.paths(x)


def test_channels_are_daily_planning_labels_and_too_few_are_told():
    x = torch.rand(1, 3, 44, 44, 44, dtype=torch.float64)
    other = x.clone()
    other[:, 2] += 1
    for name, depends in (("seg", False), ("reg", False), ("dense", True), ("sedd", True), ("cross_stitch", True)):
        net = small(name)
        same = all(torch.equal(a, b) for a, b in zip(outputs(net(x)), outputs(net(other))))
        assert same != depends, name
    with pytest.raises(ValueError, match="2 channels is too few: this network takes 3"):
        small("dense")(x[:, :2])
    assert small("dense", in_channels=2)(x[:, :2]).logits[0].shape[1] == 5
    assert networks.build("seg", classes=3, widths=SMALL)(x.float()).logits[2].shape[1] == 3


def test_bad_arguments_are_told():
    with pytest.raises(ValueError, match="kind 'voxel'"):
        networks.build("seg", dropout=0.1, dropout_kind="voxel")
    with pytest.raises(InputError, match="depth"):
        networks.build("cross_stitch", depth=3)


def test_the_segmenting_path_of_cross_stitch_sees_the_planning_ct_through_its_units_only():
    net = small("cross_stitch")
    x = torch.rand(1, 3, 44, 44, 44, dtype=torch.float64)
    other = x.clone()
    other[:, 1] += torch.rand_like(x[:, 1])
    assert not torch.equal(net(x).logits[0], net(other).logits[0])
    with torch.no_grad():
        for unit in net.stitches:
            unit.weight.copy_(torch.eye(2))
    one, two = net(x), net(other)
    assert all(torch.equal(a, b) for a, b in zip(one.logits, two.logits))
    assert not torch.equal(one.displacement[0], two.displacement[0])


def test_a_cross_stitch_unit_is_equation_5_and_commutes_with_upsampling():
    torch.manual_seed(0)
    unit = joint_blocks.CrossStitch(400).double()
    assert unit.weight.min() >= 0 and unit.weight.max() <= 1
    # a normal distribution cut at two sd has 0.88 of its sd
    assert unit.weight.mean().item() == pytest.approx(0.5, abs=0.02) and unit.weight.std().item() == pytest.approx(
        0.22, abs=0.01
    )
    x = torch.randn(2, 2, 400, 2, 3, 2, dtype=torch.float64)
    expected = torch.einsum("cij,jnczyx->inczyx", unit.weight, x)
    assert torch.allclose(torch.stack(unit(*x)), expected)
    behind = unit(*[joint_blocks.upsample(y) for y in x])
    assert all(torch.allclose(joint_blocks.upsample(a), b) for a, b in zip(unit(*x), behind))


def test_upsampling_keeps_what_is_there_and_puts_means_between():
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    up = joint_blocks.upsample(x)
    assert up.shape == (2, 3, 8, 10, 12) and torch.equal(up[..., ::2, ::2, ::2], x)
    # torch's "align corners" interpolation to 2n − 1 is the same but for the last voxel, which repeats
    inner = torch.nn.functional.interpolate(x, size=(7, 9, 11), mode="trilinear", align_corners=True)
    assert torch.allclose(up[..., :-1, :-1, :-1], inner)
    assert torch.equal(up[..., -1], up[..., -2])


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    net = networks.build(name, widths=SMALL)
    sum((x**2).sum() for x in outputs(net(torch.randn(2, 3, 48, 48, 48)))).backward()
    # the scale of a normalisation's input is of no account, and its shift is a bias's
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 70)] * 3), st.integers(4, 50))
def test_tiles_fill_the_volume_once(shape, edge):
    filled = torch.zeros(shape, dtype=torch.int)
    padded_shape = joint_tiling.padded(torch.zeros(1, 1, *shape)).shape[2:]
    for tile in joint_tiling.tiles(shape, edge):
        filled[tile.place] += 1
        for cut, core, place, whole in zip(*tile, padded_shape):
            size = cut.stop - cut.start
            assert cut.start % 4 == 0 and size % 4 == 0 and size <= edge + 48 and cut.stop <= whole
            # the voxels of the core are those of the place: seen from the padded volume both begin 24 later
            assert cut.start + elmahdy2021.LEVELS[0][0] + core.start == place.start + 24
            assert core.stop - core.start == place.stop - place.start and core.stop <= size - 44
    assert filled.min() == filled.max() == 1
    with pytest.raises(ValueError, match="too small"):
        joint_tiling.tiles(shape, 3)


@pytest.mark.parametrize("name, fill", [("reg", None), ("sedd", (-1.0, -0.5, 0.0)), ("cross_stitch", None)])
def test_tiles_leave_no_seam(name, fill):
    """Tiles give what the whole volume gives in one piece, and that is the network's output on the padded volume."""
    net, volume = small(name), torch.rand(1, 3, 14, 21, 30, dtype=torch.float64)
    whole = joint_tiling.run_tiled(net, volume, fill, edge=64)
    calls = []
    tiled = joint_tiling.run_tiled(net, volume, fill, edge=16, on_tile=lambda *a: calls.append(a))
    assert calls[-1] == (4, 4)
    direct = net(joint_tiling.padded(volume, fill))
    for levels, one, many in zip(direct, whole, tiled):
        assert (one is None) == (many is None) == (levels is None)
        if one is not None:
            assert one.shape[2:] == volume.shape[2:] and one.std() > 1e-3
            assert torch.equal(one, levels[0][..., 4:18, 4:25, 4:34])
            assert torch.allclose(one, many, rtol=0, atol=1e-10)


def test_tiles_of_less_border_would_have_seams():
    """The first 4 and the last 3 voxels of an output depend on where its tile ends, and no others."""
    net, x = small("dense"), torch.rand(1, 3, 60, 60, 60, dtype=torch.float64)
    part = net(x[..., 4:56, 4:56, 4:56]).logits[0]
    whole = net(x).logits[0][..., 4:16, 4:16, 4:16]
    differs = (part - whole).abs().amax((0, 1)) > 1e-10
    assert differs[3].any() and differs[-3].any() and not differs[4:-3, 4:-3, 4:-3].any()


def test_padding_repeats_the_edge_or_takes_a_value_for_each_channel():
    volume = torch.rand(1, 2, 5, 6, 7)
    edge, filled = joint_tiling.padded(volume), joint_tiling.padded(volume, (-1.0, 2.0))
    inside = (..., slice(24, 29), slice(24, 30), slice(24, 31))
    assert edge.shape == filled.shape == (1, 2, 56, 56, 56)
    assert torch.equal(edge[inside], volume) and torch.equal(filled[inside], volume)
    assert torch.equal(edge[0, :, 0, 0, 0], volume[0, :, 0, 0, 0]) and filled[0, :, 0, 0, -1].tolist() == [-1.0, 2.0]


@pytest.mark.parametrize("kind", joint_blocks.DROPOUT_KINDS)
def test_both_paths_are_sampled_and_only_when_asked(kind):
    net, x = small("cross_stitch", dropout=0.5, dropout_kind=kind), torch.rand(1, 3, 44, 44, 44, dtype=torch.float64)
    still = net(x)
    assert all(torch.equal(a, b) for a, b in zip(outputs(still), outputs(small("cross_stitch")(x))))
    net.set_sampling(True, seed=3)
    one, again = net(x), net(x)
    assert all(torch.equal(a, b) for a, b in zip(outputs(one), outputs(again)))
    different = [False] * 6
    for seed in range(4, 12):  # two channels leave few masks: some seeds give the same
        net.set_sampling(True, seed)
        different = [d or not torch.equal(a, b) for d, a, b in zip(different, outputs(one), outputs(net(x)))]
    assert all(different)
    net.set_sampling(False)
    assert all(torch.equal(a, b) for a, b in zip(outputs(net(x)), outputs(still)))


@pytest.mark.parametrize("kind", joint_blocks.DROPOUT_KINDS)
def test_the_mean_of_the_samples_is_the_output_without_dropout(kind):
    """The heads are linear and what is kept is scaled up, so dropout must not shift them."""
    net = small("sedd", dropout=0.3, dropout_kind=kind)
    with torch.inference_mode():
        features = net.features(torch.rand(1, 3, 44, 44, 44, dtype=torch.float64))
        still, drawn = net.heads(features), []
        for seed in range(400):
            net.set_sampling(True, seed)
            drawn.append(net.heads(features))
    for path in ("logits", "displacement"):
        samples = torch.stack([getattr(s, path)[0] for s in drawn])
        error = (samples.mean(0) - getattr(still, path)[0]) / (samples.std(0) / 20)
        assert error.abs().max() < 6 and samples.std(0).min() > 0


def test_channel_dropout_is_one_function_of_the_volume():
    net, volume = small("dense", dropout=0.5), torch.rand(1, 3, 8, 12, 8, dtype=torch.float64)
    net.set_sampling(True, seed=1)
    for one, many in zip(joint_tiling.run_tiled(net, volume, edge=64), joint_tiling.run_tiled(net, volume, edge=8)):
        assert torch.allclose(one, many, rtol=0, atol=1e-10)
    unit = joint_blocks.HeadDropout(0.5, "channel").eval()
    unit.sampling = True
    drawn = unit(torch.ones(3, 64, 2, 2, 2))
    assert set(drawn.unique().tolist()) == {0.0, 2.0} and torch.equal(drawn.amin((2, 3, 4)), drawn.amax((2, 3, 4)))
    # without a seed the entries of a batch are samples of their own; with one they are the same
    assert not torch.equal(drawn[0], drawn[1])
    unit.seed = 5
    drawn = unit(torch.ones(3, 64, 2, 2, 2))
    assert torch.equal(drawn[0], drawn[1]) and 16 < drawn[0, :, 0, 0, 0].count_nonzero() < 48
