"""Agreed: edits where classifier and generator agree, and nowhere else."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from causalcf.diffusion.codec import Codec
from causalcf.explain import Agreed, Generator


def half(x, timestep, condition):
    """A generator that draws what it is told: the left half is bright or dark, and the right one slightly otherwise."""
    told = condition[:, :1, None, None].expand_as(x)
    return torch.cat([told[..., :4], -0.01 * told[..., 4:]], 3)


def test_agreement_edits_where_both_agree():
    drawing = Generator(half, torch.zeros(1), prediction="x0", conditions=lambda classes: 2.0 * classes[:, None] - 1)
    images = torch.full((2, 1, 8, 8), 0.5)
    classifier = lambda x: 9 * (x - 0.55).flatten(1).sum(1)  # noqa: E731  it looks everywhere
    options = {"steps": 10, "share": 1.0, "dilation": 1, "block": 1, "threshold": 0.0, "angle": 60.0}
    found = Agreed(**options, weights=(1.0, 0.0, 0.0)).explain(classifier, drawing, images)
    assert found.flipped.all()
    change = (found.counterfactuals - images).abs()
    assert change[..., :4].mean() > 0.1
    assert change[..., 4:].mean() < 0.02
    everywhere = Agreed(**{**options, "angle": 180.0}, weights=(1.0, 0.0, 0.0)).explain(classifier, drawing, images)
    assert (everywhere.counterfactuals - images).abs()[..., 4:].mean() > 0.1


def test_masks_are_where_the_classifier_looks_and_classes_differ():
    drawing = Generator(half, torch.zeros(1), prediction="x0", conditions=lambda classes: 2.0 * classes[:, None] - 1)
    images = torch.full((2, 1, 8, 8), 0.5)
    looks = torch.full((8, 8), 0.01)
    looks[:4] = 1.0  # at the upper half; the generator's classes differ on the left
    options = {"steps": 10, "share": 0.25, "dilation": 1, "block": 1, "weights": (1.0, 1.0, 0.0), "threshold": 0.0}
    found = Agreed(**options).explain(lambda x: 9 * (looks * (x - 0.55)).flatten(1).sum(1), drawing, images)
    changed = found.counterfactuals != images
    assert changed[..., :3, :3].all()
    assert not changed[..., 5:, :].any()
    assert not changed[..., 5:].any()


@pytest.mark.parametrize("scales", [(1.0, 2.0, 4.0), (0.5, 1.0, 2.0)])
def test_what_does_not_flip_is_tried_again_under_a_wider_mask(scales):
    drawing = Generator(half, torch.zeros(1), prediction="x0", conditions=lambda classes: 2.0 * classes[:, None] - 1)
    images = torch.full((1, 1, 8, 8), 0.5)
    looks = torch.arange(64.0).reshape(8, 8) / 64
    options = {"steps": 10, "share": 0.125, "dilation": 1, "block": 1, "weights": (1.0, 1.0, 0.0), "threshold": 0.0}
    shares = []
    for count in (1, 2, 3):
        how = Agreed(**options, scales=scales[:count])
        found = how.explain(lambda x: (looks * (x - 0.5)).mean((1, 2, 3)) - 9, drawing, images)
        assert not found.flipped.any()
        shares.append(found.mask.float().mean().item())
    assert shares == [0.125, 0.25, 0.5]


class Coarse(Codec):
    """Means of squares of two pixels."""

    def encode(self, images):
        return avg_pool2d(2 * images - 1, 2)

    def decode(self, x):
        return interpolate((x + 1) / 2, scale_factor=2.0)


def test_agreement_works_in_latents_and_elsewhere_keeps_pixels():
    told = lambda classes: 2.0 * classes[:, None] - 1  # noqa: E731
    drawing = Generator(half, torch.zeros(1), prediction="x0", conditions=told, codec=Coarse())
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    options = {"steps": 10, "share": 0.2, "dilation": 1, "block": 1, "weights": (1.0, 1.0, 0.0), "threshold": 0.0}
    classifier = lambda x: 9 * (x[..., :8] - 0.5).flatten(1).sum(1)  # noqa: E731
    found = Agreed(**options).explain(classifier, drawing, images)
    changed = found.counterfactuals != images
    assert 0 < changed[..., :8].float().mean() < 0.6
    assert not changed[..., 8:].any()
    again = Agreed(**{**options, "threshold": 0.1, "blur": 1}).explain(classifier, drawing, images)
    size = (again.counterfactuals - images).abs().mean(1)
    assert torch.equal(size > 0, (found.counterfactuals - images).abs().mean(1) >= 0.1)


IDS = torch.arange(5)


@pytest.fixture
def told(generator):
    """A generator that is told classes."""
    return Generator(
        generator.network, generator.null, generator.schedule, conditions=lambda c: torch.eye(3).double()[c]
    )


OPTIONS = {"steps": 10, "strength": 0.8, "share": 0.3, "scales": (4.0, 16.0), "threshold": 0.0}


@pytest.mark.parametrize("options", [{}, {"abducted": False}], ids=["own noise", "drawn noise"])
def test_rows_do_not_depend_on_their_batch(told, classifier, images, options):
    whole = Agreed(**OPTIONS, **options, batch=5).explain(classifier, told, images, ids=IDS)
    parts = Agreed(**OPTIONS, **options, batch=2).explain(classifier, told, images, ids=IDS)
    torch.testing.assert_close(whole.counterfactuals, parts.counterfactuals, atol=1e-9, rtol=0)
    assert whole.after.mean() > whole.before.mean() + 0.02
    kept = ~whole.mask
    assert torch.equal(whole.counterfactuals[kept.expand_as(images)], images[kept.expand_as(images)])


def test_what_it_costs(told, classifier, images):
    """Two in each of 8 steps, two in each of 3 looks, and one for every level of the way up but the first."""
    options = OPTIONS | {"scales": (1e-9,)}
    found = Agreed(**options).explain(classifier, told, images, ids=IDS)
    assert (found.forward.unique().tolist(), found.backward.unique().tolist()) == ([2 * 8 + 2 * 3 + 7], [0])
    drawn = Agreed(**options, abducted=False).explain(classifier, told, images, ids=IDS)
    assert drawn.forward.unique().tolist() == [2 * 8 + 2 * 3]


def test_of_several_classes_the_one_that_is_left_is_told(images):
    asked = []

    def conditions(classes):
        asked.append(classes.tolist())
        return torch.zeros(len(classes), 3).double()

    drawing = Generator(lambda x, timestep, condition: 0.1 * x, torch.zeros(3).double(), conditions=conditions)
    classifier = lambda x: torch.stack([0 * x.sum((1, 2, 3)), x.mean((1, 2, 3)) + 1, 9 * x[:, 0, 0, 0]], 1)  # noqa: E731
    found = Agreed(**OPTIONS).explain(classifier, drawing, images, target=0, ids=IDS)
    assert asked[-2:] == [found.predicted[~found.flipped].tolist(), [0] * 5]


def test_what_was_read_of_a_row_is_told_of_that_row(images):
    asked = []

    def conditions(classes, given):
        asked.append((len(classes), given["light"].tolist()))
        return torch.zeros(len(classes), 3).double()

    light = lambda x: x.mean((1, 2, 3))  # noqa: E731
    network = lambda x, timestep, condition: 0.1 * x  # noqa: E731
    drawing = Generator(network, torch.zeros(3).double(), conditions=conditions, readers={"light": light})
    order = light(images).argsort()
    first = light(images)[order[2]].item()
    classifier = lambda x: torch.where(light(x) > first, 1.0, -1.0) + 0 * light(x)  # noqa: E731
    found = Agreed(**OPTIONS).explain(classifier, drawing, images, ids=IDS)
    again = found.scale == OPTIONS["scales"][1]
    assert 0 < again.sum() < 5
    assert asked[-1] == (int(again.sum()), light(images)[again].tolist())


def test_further_explanations_keep_out_of_the_places_of_earlier_ones(told, classifier, images):
    first, second = Agreed(**OPTIONS).diverse(classifier, told, images, ids=IDS, threshold=1e-3, blur=1)
    assert not torch.equal(first.counterfactuals, second.counterfactuals)
    for one, two in zip(first.counterfactuals - images, second.counterfactuals - images, strict=True):
        assert not ((one.abs().mean(0) >= 1e-3) & (two != 0).any(0)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, r"strength and share in \(0, 1\]"),
        ({"share": 1.5}, r"strength and share in \(0, 1\]"),
        ({"looks": 0}, "looks >= 1"),
        ({"angle": 0.0}, r"angle in \(0, 180\]"),
        ({"block": 0}, "block >= 1"),
        ({"weights": (1.0, 2.0)}, r"write weights=\(1, 2, 0\)"),
        ({"weights": (1.0, -2.0, 0.0)}, "each >= 0"),
        ({"dilation": 4}, "odd number of pixels, got 4"),
        ({"blur": 2}, "odd number of pixels, got 2"),
        ({"loss": "bce"}, "Agreed: expected loss 'logit' or 'log-probability', got 'bce'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Agreed(**options)


def test_a_generator_that_is_told_nothing_is_refused(generator, classifier, images):
    with pytest.raises(ValueError, match="class"):
        Agreed(**OPTIONS).explain(classifier, generator, images)
