"""DiME, FastDiME and MaskDiME: what they cost, what they keep, and when they are the same."""

from dataclasses import replace

import matplotlib.image
import pytest
import torch

import causalcf as cf
from causalcf.diffusion.ancestral import Ancestral
from causalcf.diffusion.guidance import NoGuidance, guided
from causalcf.diffusion.solvers import noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain import DiME, FastDiME, MaskDiME
from causalcf.units import Units

STEPS, DEPTH = 20, 6
IDS = torch.arange(5)
FEW = {"steps": STEPS, "depth": DEPTH, "scales": (8.0,)}
ALL = {
    "DiME": (DiME, {}),
    "FastDiME": (FastDiME, {}),
    "FastDiME-2": (FastDiME, {"masking": "2"}),
    "FastDiME-2+": (FastDiME, {"masking": "2+"}),
    "FastDiME, no mask": (FastDiME, {"masking": "none"}),
    "MaskDiME": (MaskDiME, {"share": 0.1, "dilation": 3}),
}
BY_NAME = {"argvalues": ALL.values(), "ids": ALL.keys()}


@pytest.mark.parametrize(
    ("kind", "options", "calls"),
    [
        (DiME, {}, DEPTH + sum(range(1, DEPTH))),
        (FastDiME, {}, DEPTH),
        (FastDiME, {"masking": "2"}, 2 * DEPTH),
        (FastDiME, {"masking": "2+"}, 2 * DEPTH),
        (MaskDiME, {}, DEPTH),
    ],
)
@pytest.mark.parametrize("parity", [None, "published"])
def test_network_evaluations_are_those_of_the_cost_model(kind, options, calls, parity, generator, classifier, images):
    explanation = kind(**FEW, **options, parity=parity).explain(classifier, generator, images, ids=IDS)
    assert explanation.forward.tolist() == [calls] * 5
    assert explanation.backward.tolist() == [0] * 5


@pytest.mark.parametrize(("kind", "options"), **BY_NAME)
def test_rows_do_not_depend_on_their_batch(kind, options, generator, classifier, images):
    whole = kind(**FEW, **options, batch=5).explain(classifier, generator, images, ids=IDS)
    parts = kind(**FEW, **options, batch=2).explain(classifier, generator, images, ids=IDS)
    torch.testing.assert_close(whole.counterfactuals, parts.counterfactuals, atol=1e-9, rtol=0)
    other = kind(**FEW, **options, seed=1).explain(classifier, generator, images, ids=IDS)
    assert not torch.equal(whole.counterfactuals, other.counterfactuals)


@pytest.mark.parametrize(("kind", "options"), **BY_NAME)
def test_a_classifier_is_asked_in_the_precision_of_the_images(kind, options, generator, classifier, images):
    asked = set()

    def seen(images):
        asked.add(images.dtype)
        return classifier(images)

    kind(**FEW, **options).explain(seen, generator, images, ids=IDS)
    assert asked == {torch.float64}
    asked.clear()
    generator.network.float()
    generator.null = generator.null.float()
    kind(**FEW, **options).explain(seen, generator, images.float(), ids=IDS)
    assert asked == {torch.float32}


@pytest.mark.parametrize(("kind", "options"), **BY_NAME)
@pytest.mark.parametrize("parity", [None, "published"])
def test_the_classifier_is_moved_towards_the_target(kind, options, parity, generator, classifier, images):
    explanation = kind(**{**FEW, "scales": (50.0,)}, **options, parity=parity).explain(
        classifier, generator, images, ids=IDS
    )
    assert explanation.predicted.tolist() == [1] * 5
    assert explanation.target.tolist() == [0] * 5
    unguided = kind(**{**FEW, "scales": (1e-9,), "distance": 0.0}, **options, parity=parity).explain(
        classifier, generator, images, ids=IDS
    )
    assert explanation.after.mean() > unguided.after.mean() + 0.05


@pytest.mark.parametrize(
    ("kind", "options"), [(FastDiME, {"dilation": 1, "threshold": 0.8}), (MaskDiME, {"dilation": 3})]
)
def test_pixels_outside_the_mask_are_the_factual_ones(kind, options, generator, classifier, images):
    explanation = kind(**FEW, **options).explain(classifier, generator, images, ids=IDS)
    kept = ~explanation.mask
    assert 0 < kept.double().mean() < 1
    assert torch.equal(explanation.counterfactuals[kept], images[kept])
    assert not torch.equal(explanation.counterfactuals[explanation.mask], images[explanation.mask])


def test_published_maskdime_leaves_the_noise_of_the_lowest_level(generator, classifier, images):
    explanation = MaskDiME(**FEW, parity="published").explain(classifier, generator, images, ids=IDS)
    kept = ~explanation.mask
    left = 2 * (explanation.counterfactuals - images)[kept]
    assert 0.3 < left.std() / generator.levels(STEPS).sigma[1] < 3


@pytest.mark.parametrize(("kind", "options"), [(DiME, {}), (FastDiME, {"masking": "none"})])
def test_without_guidance_they_are_the_plain_chain(kind, options, generator, images):
    def constant(images):
        return 0 * images.sum((1, 2, 3)) + 1

    found = kind(**FEW, distance=0.0, **options).explain(constant, generator, images, ids=IDS)
    levels, units, factual = generator.levels(STEPS), Units(IDS, 0), 2 * images - 1
    start = noised(factual, units.normal("start.0", images.shape[1:]), DEPTH, levels)
    model = guided(generator.denoiser(levels), generator.nothing(5), NoGuidance())
    plain = generate(
        model, start, levels, Ancestral(lambda k: units.normal(f"step.0.{k}", images.shape[1:])), depth=DEPTH
    )
    assert torch.equal(found.counterfactuals, ((plain + 1) / 2).clamp(0, 1))


def test_all_masks_open_maskdime_is_fastdime_without_a_mask(generator, classifier, images):
    open_ = MaskDiME(**FEW, size=1.0, share=1.0, inner=1.0).explain(classifier, generator, images, ids=IDS)
    fast = FastDiME(**FEW, masking="none").explain(classifier, generator, images, ids=IDS)
    torch.testing.assert_close(open_.counterfactuals, fast.counterfactuals, atol=1e-12, rtol=0)


def test_equal_gradients_are_told_apart_by_lot(generator, images):
    """Of a classifier whose gradient is the same everywhere, no place of the image is preferred."""
    images = torch.cat([images] * 12)

    def bright(images):
        return 5 * (images.mean((1, 2, 3)) - 0.4)

    options = {**FEW, "distance": 0.0, "share": 0.1, "inner": 0.5, "dilation": 1}
    ids = torch.arange(len(images))
    found = MaskDiME(**options, batch=60).explain(bright, generator, images, ids=ids)
    assert (found.mask.flatten(1).sum(1) == 6).all()
    assert found.mask.double().mean(0).max() < 0.3
    parts = MaskDiME(**options, batch=7).explain(bright, generator, images, ids=ids)
    assert torch.equal(found.mask, parts.mask)
    other = MaskDiME(**options, seed=1).explain(bright, generator, images, ids=ids)
    assert not torch.equal(found.mask, other.mask)


def test_a_zero_gradient_is_no_trouble(generator, images):
    def constant(images):
        return 0 * images.sum((1, 2, 3)) + 1

    for kind in (FastDiME, MaskDiME):
        found = kind(**FEW, distance=0.0).explain(constant, generator, images, ids=IDS)
        assert found.counterfactuals.isfinite().all()
        assert not found.flipped.any()


def test_published_maskdime_does_not_move_rows_without_a_gradient(generator, classifier, images):
    """All others go on as they would without them; corrected, these rows go on as well."""

    def half(images):
        moving = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)[: len(images)]
        return moving * classifier(images) + 1

    published = MaskDiME(**FEW, distance=0.0, parity="published").explain(half, generator, images, ids=IDS)
    levels, noise = generator.levels(STEPS), Units(IDS, 0).normal("start.0", images.shape[1:])
    start = noised(2 * images - 1, noise, DEPTH + 1, levels)
    still = torch.tensor([0, 2, 4])
    assert torch.equal(published.counterfactuals[still], ((start + 1) / 2).clamp(0, 1)[still])
    every = MaskDiME(**FEW, distance=0.0, parity="published").explain(classifier, generator, images, ids=IDS)
    torch.testing.assert_close(published.counterfactuals[[1, 3]], every.counterfactuals[[1, 3]], atol=1e-12, rtol=0)
    corrected = MaskDiME(**FEW, distance=0.0).explain(half, generator, images, ids=IDS)
    assert not torch.allclose(corrected.counterfactuals[still], ((start + 1) / 2).clamp(0, 1)[still], atol=1e-3)


def test_only_rows_that_did_not_flip_are_tried_again(generator, classifier, images):
    images = images.clone()
    images[:2] = 0.5  # undecided: any push flips them
    images[:2, ..., :4] += 0.001
    scales = (0.1, 500.0)
    found = FastDiME(steps=STEPS, depth=DEPTH, scales=scales, distance=0.0, masking="none").explain(
        classifier, generator, images, ids=IDS
    )
    again = found.scale == scales[1]
    assert 0 < again.sum() < 5
    assert torch.equal(found.forward, DEPTH * (1.0 + again))
    first = FastDiME(steps=STEPS, depth=DEPTH, scales=scales[:1], distance=0.0, masking="none").explain(
        classifier, generator, images, ids=IDS
    )
    assert torch.equal(first.flipped, ~again)
    assert torch.equal(first.counterfactuals[~again], found.counterfactuals[~again])


def test_an_explanation_is_saved_and_loaded(tmp_path, generator, classifier, images):
    found = MaskDiME(**FEW).explain(classifier, generator, images, ids=IDS)
    found.save(tmp_path / "e")
    loaded = cf.explain.Explanation.load(tmp_path / "e")
    assert torch.equal(loaded.counterfactuals, found.counterfactuals)
    assert torch.equal(loaded.mask, found.mask)
    assert loaded.about == {**found.about, "scales": [8.0]}
    assert {path.name for path in (tmp_path / "e").glob("*.png")} == {f"{row}.png" for row in range(5)}
    with pytest.raises(FileNotFoundError, match="holds no explanation"):
        cf.explain.Explanation.load(tmp_path)


class Index(torch.Tensor):
    """Notes where it is brought."""

    def to(self, device):
        self.places = [*getattr(self, "places", []), device.type]
        return self.as_subclass(torch.Tensor).to(device)


def test_rows_of_an_explanation_are_chosen_where_each_column_is(generator, classifier, images):
    found = MaskDiME(**FEW).explain(classifier, generator, images, ids=IDS)
    some = found[found.flipped]
    assert torch.equal(some.ids, IDS[found.flipped])
    assert torch.equal(found[[1, 3]].counterfactuals, found[1:4:2].counterfactuals)
    apart = replace(found, images=found.images.to("meta"), counterfactuals=found.counterfactuals.to("meta"))
    index = torch.tensor([0, 2]).as_subclass(Index)
    some = apart[index]
    assert (some.images.shape, some.ids.tolist()) == ((2, *images.shape[1:]), IDS[[0, 2]].tolist())
    assert index.places == ["meta"] * 2 + ["cpu"] * 12


def test_one_row_of_an_explanation_is_an_explanation(generator, classifier, images):
    found = MaskDiME(**FEW).explain(classifier, generator, images, ids=IDS)
    assert [(len(one), one.images.shape, one.ids.tolist()) for one in found] == [
        (1, images[:1].shape, [row]) for row in IDS.tolist()
    ]
    assert found[-1].ids.tolist() == [IDS[-1]]
    with pytest.raises(IndexError):
        found[5]


def test_pictures_of_the_explanation_that_was_there_go(tmp_path, generator, classifier, images):
    found = FastDiME(**FEW).explain(classifier, generator, images, ids=IDS)
    found.save(tmp_path)
    (tmp_path / "mine.png").touch()
    found[1:3].save(tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"1.png", "2.png", "mine.png"}
    (tmp_path / "explanation.safetensors").write_bytes(b"cut short")
    found[:1].save(tmp_path)
    assert len(cf.explain.Explanation.load(tmp_path)) == 1


def test_every_row_has_its_picture_though_ids_be_the_same(tmp_path, generator, classifier, images):
    found = FastDiME(**FEW).explain(classifier, generator, images, ids=torch.tensor([7, 8, 7, 7, 9]))
    found.save(tmp_path)
    names = ["7.png", "8.png", "7-2.png", "7-3.png", "9.png"]
    assert {path.name for path in tmp_path.glob("*.png")} == set(names)
    for row, name in enumerate(names):
        shown = torch.from_numpy(matplotlib.image.imread(tmp_path / name)[..., 0])[:, :8]
        torch.testing.assert_close(shown.double(), images[row, 0], atol=1 / 255, rtol=0)
    found[:1].save(tmp_path)
    assert [path.name for path in tmp_path.glob("*.png")] == ["7.png"]


def test_three_classes_and_one_label_of_many(generator, images):
    def three(images):
        means = images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3)), images.amax((1, 2, 3))
        return 10 * torch.stack(means, 1)

    found = FastDiME(**FEW).explain(three, generator, images, target=1, ids=IDS)
    torch.testing.assert_close(found.before, three(images).softmax(1)[:, 1])
    with pytest.raises(ValueError, match="knows 3 classes; say which one to reach"):
        FastDiME(**FEW).explain(three, generator, images)
    one = cf.explain.label(three, 2)
    assert torch.equal(FastDiME(**FEW).explain(one, generator, images).predicted, (three(images)[:, 2] > 0).long())


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DiME, {"scales": ()}, "expected scales above 0"),
        (DiME, {"scales": 8.0}, r"expected scales above 0, got 8.0; write scales=\(8, 10, 15\)"),
        (DiME, {"depth": 300}, "expected 2 <= depth < steps, got depth=300 of steps=200"),
        (DiME, {"parity": "exact"}, "expected parity 'published' or None"),
        (FastDiME, {"masking": "3"}, "expected masking"),
        (MaskDiME, {"share": 0.0}, "expected shares in"),
        (MaskDiME, {"dilation": 4}, "expected an odd number of pixels, got 4; write 5"),
        (FastDiME, {"dilation": 4}, "expected an odd number of pixels, got 4; write 5"),
        (MaskDiME, {"loss": "bce"}, "MaskDiME: expected loss 'logit' or 'log-probability', got 'bce'"),
        (DiME, {"variance": "learned"}, "DiME: expected variance 'small' or 'large', got 'learned'"),
    ],
)
def test_options_without_a_meaning_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_inputs_without_a_meaning_are_refused(generator, classifier, images):
    explainer = FastDiME(**FEW)
    with pytest.raises(ValueError, match=r"values in \[0, 1\]; divide grey levels by 255"):
        explainer.explain(classifier, generator, 255 * images)
    with pytest.raises(ValueError, match="knows the classes 0 to 1, got 2 to 2"):
        explainer.explain(classifier, generator, images, target=2)
    with pytest.raises(ValueError, match=r"expected logits of shape \(5,\) or \(5, classes\), got \(1,\)"):
        explainer.explain(lambda images: images.sum()[None], generator, images)
    with pytest.raises(FloatingPointError, match="does it expect images in"):
        explainer.explain(lambda images: classifier(images) / 0, generator, images)
    with pytest.raises(ValueError, match=r"^label: .* logits of \(5, 3\), without label 7; give one from 0 to 2$"):
        explainer.explain(cf.explain.label(lambda images: images.flatten(1)[:, :3], 7), generator, images)
    with pytest.raises(ValueError, match=r"^label: .* logits of \(5,\), without label 0; explain it as it is$"):
        explainer.explain(cf.explain.label(classifier, 0), generator, images)
