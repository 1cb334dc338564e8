"""What does not fit is said before anything is drawn, with what to do about it."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from causalcf.explain import LDCE, SCE, FastDiME, IntegratedGradients, Led, SmoothGrad, explain_all, label
from causalcf.explain.generators import Generator, from_scm
from causalcf.explain.queries import Query, decided
from causalcf.pretrained import load_judge, load_pretrained

FEW = {"steps": 10, "depth": 3, "scales": (8.0,), "batch": 2}


@pytest.fixture(autouse=True)
def sampled(monkeypatch):
    for kind in (FastDiME, SCE):
        monkeypatch.setattr(kind, "attempt", lambda *_: pytest.fail("sampled"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: 255 * x, r"values in \[0, 1\]; divide grey levels by 255; these are from \d+\.?\d* to \d+"),
        (lambda x: 2 * x - 1, r"write \(images \+ 1\) / 2 for images in \[-1, 1\]"),
        (lambda x: (x - 0.45) / 0.05, "undo the normalisation of channels"),
        (lambda x: x - x.min() - 1e-6, r"write images.clamp\(0, 1\)"),
        (lambda x: x + 1, "look where brighter ones come from"),
        (lambda x: (255 * x).byte(), r"expected floats in \[0, 1\], got torch.uint8; write images.float\(\) / 255"),
        (lambda x: x.where(torch.arange(5).reshape(5, 1, 1, 1) != 3, torch.nan), "row 3 has values that are NaN"),
        (lambda x: x[0], r"expected shape \(B, C, H, W\), got \(1, 8, 8\); write images\[None\]"),
        (lambda x: x[:0], "at least one row"),
        (list, r"expected a tensor of shape \(B, C, H, W\), got list; write torch.stack\(images\)"),
        (lambda x: x.numpy(), r"got ndarray; write torch.as_tensor\(images\)"),
    ],
)
def test_images_that_are_none(generator, classifier, images, change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FastDiME(**FEW).explain(classifier, generator, change(images))


def test_something_that_is_no_generator(generator, classifier, images):
    with pytest.raises(TypeError, match=r"expected a Generator, got ConditionalUNet; make one .*\.from_diffusers"):
        FastDiME(**FEW).explain(classifier, generator.network, images)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ValueError("sides"),
            r"asked about images of shape \(\d, 1, 8, 8\), torch.float64, it raised ValueError: sides; give",
        ),
        (AttributeError("no head"), "it raised AttributeError: no head"),
        (KeyError("logits"), "it raised KeyError: 'logits'"),
    ],
)
def test_a_classifier_that_raises(generator, images, error, message):
    def broken(images):
        raise error

    with pytest.raises(ValueError, match=f"classifier: .*{message}"):
        FastDiME(**FEW).explain(broken, generator, images)
    with pytest.raises(ValueError, match=f"surrogate: .*{message}"):
        SCE(steps=10, batch=2, surrogate=broken).explain(lambda x: x.mean((1, 2, 3)), generator, images[:2])


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(1), nn.Dropout(0.5)])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda f: f,
        lambda f: label(f, 0),
        SmoothGrad,
        lambda f: torch.jit.trace(f, torch.rand(2, 1, 8, 8).double(), check_trace=False).train(),
    ],
    ids=["module", "label", "SmoothGrad", "TorchScript"],
)
def test_a_classifier_in_training_mode(generator, images, layer, wrapped):
    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(64, 1)).double()
    network.train()
    with pytest.raises(ValueError, match=rf"classifier: it is in training mode, where a row of {type(layer).__name__}"):
        FastDiME(**FEW).explain(wrapped(network), generator, images)
    with pytest.raises(ValueError, match=r"surrogate: it is in training mode, .*call surrogate.eval\(\)"):
        SCE(steps=10, surrogate=wrapped(network)).explain(lambda x: x.mean((1, 2, 3)), generator, images)
    network[2].train(), network[0].eval()
    assert len(FastDiME(**FEW).queries(network, generator, images)) == 3


class DropPath(nn.Module):
    """As in many networks of others: a row is left out as a whole."""

    def forward(self, x):
        return x * (torch.rand(len(x), 1, 1, 1) > 0.5) if self.training else x


def test_layers_of_others_that_leave_rows_to_chance_are_known_by_their_names(generator, images):
    network = nn.Sequential(DropPath(), nn.Flatten(), nn.Linear(64, 1)).double().train()
    with pytest.raises(ValueError, match="classifier: it is in training mode, where a row of DropPath"):
        FastDiME(**FEW).explain(network, generator, images)


def test_behind_a_function_no_mode_can_be_seen_but_what_it_does(generator, images):
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 1)).double().train()
    bright = images * torch.tensor([1.0, 0.2, 0.2, 0.2, 0.2]).double().reshape(-1, 1, 1, 1)
    explainer = FastDiME(**{**FEW, "batch": 5})
    with pytest.warns(UserWarning, match="classifier: its probability of the first image's target differs by 0"):
        explainer.queries(lambda x: 1 * network(x), generator, bright)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer.queries(lambda x: 1 * network.eval()(x), generator, bright)


@pytest.mark.parametrize("option", [{"batch": 2.0}, {"seed": 0.7}, {"depth": 2.5}, {"steps": 10.0}])
def test_what_is_counted_is_whole(generator, classifier, images, option):
    with pytest.raises(ValueError, match=f"expected a whole number {next(iter(option))}"):
        FastDiME(**{**FEW, **option}).queries(classifier, generator, images)


def test_the_leader_is_found_behind_what_holds_it(generator, images):
    two = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).double().eval()
    student = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2)).double().train()
    with pytest.raises(ValueError, match="surrogate: it is in training mode"):
        FastDiME(**FEW).queries(label(Led(two, student), 0), generator, images)


def test_inference_mode(generator, classifier, images):
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"FastDiME.explain needs gradients, .*no_grad\(\)"):
        FastDiME(**FEW).explain(classifier, generator, images)


def test_one_column_is_of_a_binary_classifier():
    logits = torch.tensor([2.0, -1.0, 0.1, 0.0])
    assert decided(logits).tolist() == decided(logits[:, None]).tolist() == [1, 0, 1, 0]
    assert decided(torch.stack([logits, -logits], 1)).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    "last",
    [
        lambda x: x.sigmoid(),
        lambda x: x[:, None].sigmoid(),
        lambda x: x.sigmoid().float()[:, None],
        lambda x: torch.stack([-x, x], 1).softmax(1),
        lambda x: torch.stack([-x, x, 2 * x], 1).softmax(1).detach(),
    ],
    ids=["(B,)", "(B, 1)", "another type", "softmax", "without a graph"],
)
def test_probabilities_are_no_logits(generator, classifier, images, last):
    message = "it gives probabilities; return logits: leave out the last sigmoid or softmax, or use torch.logit"
    with pytest.raises(ValueError, match=f"classifier: {message}"):
        FastDiME(**FEW).explain(lambda x: last(classifier(x)), generator, images, target=0)


def test_probabilities_of_a_surrogate_and_of_one_label_are_no_logits(generator, classifier, images):
    both = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2), torch.nn.Sigmoid()).double()
    with pytest.raises(ValueError, match="surrogate: it gives probabilities"):
        SCE(steps=10, surrogate=label(both, 1)).explain(classifier, generator, images)
    with pytest.raises(ValueError, match="classifier: it gives probabilities"):
        FastDiME(**FEW).explain(label(both, 1), generator, images, target=0)


def test_probabilities_are_no_logits_where_gradients_are_those_of_another(generator, classifier, images):
    class Attributes(nn.Module):
        def forward(self, images):
            return torch.stack([classifier(images), -classifier(images)], 1).sigmoid()

    def closed(images):
        return torch.from_numpy(classifier(images).numpy())  # asked without gradients alone

    for said in (lambda x: classifier(x).sigmoid(), label(Attributes(), 0)):
        for wrapped in (Led(said, classifier), SmoothGrad(said), IntegratedGradients(said)):
            with pytest.raises(ValueError, match="classifier: it gives probabilities"):
                FastDiME(**FEW).explain(wrapped, generator, images, target=0)
        with pytest.raises(ValueError, match="classifier: it gives probabilities"):
            SCE(steps=10, surrogate=classifier).explain(said, generator, images, target=0)
    assert len(FastDiME(**FEW).queries(Led(closed, classifier), generator, images)) == 3


def test_logits_may_lie_between_0_and_1(generator, classifier, images, recwarn):
    small = classifier(images) / 20
    assert 0 < small.min() < small.max() < 1
    for logits in (
        lambda x: classifier(x) / 20,
        lambda x: torch.stack([classifier(x), -classifier(x)], 1).log_softmax(1),
    ):
        assert len(FastDiME(**FEW).queries(logits, generator, images)) == 3
    assert not recwarn
    many = images[:4].repeat(4, 1, 1, 1)
    with pytest.warns(UserWarning, match="all of 16 logits are from 0 to 1; if these are probabilities, return logits"):
        Query(lambda x: classifier(x).sigmoid(), many, 0)


def test_a_surrogate_of_other_classes(generator, classifier, images):
    def three(images):
        return torch.stack([classifier(images)] * 3, 1)

    with pytest.raises(ValueError, match="surrogate: it knows 3 classes, the classifier 2; distil it from this"):
        SCE(steps=10, surrogate=three).explain(classifier, generator, images)
    two = SCE(steps=10, surrogate=lambda images: three(images)[:, :2])
    assert len(two.queries(classifier, generator, images)) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("smile", r"expected a class, a number from 0 to 1, or int64 classes of shape \(2,\), got 'smile'"),
        (1.0, "expected a class or int64 classes"),
        (True, "expected a class or int64 classes .* got torch.bool"),
        (3, "knows the classes 0 to 1, got 3 to 3"),
    ],
)
def test_a_target_that_is_no_class(generator, classifier, images, target, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FastDiME(**FEW).explain(classifier, generator, images, target=target)


def test_targets_may_be_of_any_whole_type(generator, classifier, images):
    queries = FastDiME(**FEW).queries(classifier, generator, images, torch.zeros(5, dtype=torch.int32))
    assert queries[0].target.dtype == torch.int64


@pytest.mark.parametrize("made", [list, tuple, np.array, torch.tensor])
def test_targets_of_rows_may_come_in_any_row(generator, images, made):
    def three(images):
        return torch.stack([images.amax((1, 2, 3)), images.mean((1, 2, 3)), -images.mean((1, 2, 3))], 1)

    aims = [1, 2, 2, 1, 2]
    queries = FastDiME(**FEW).queries(three, generator, images, made(aims))
    assert [target for query in queries for target in query.target.tolist()] == aims
    for few in ([1], [1, 2]):  # as many as a batch has
        with pytest.raises(ValueError, match=f"target: expected one class per row, 5, got {len(few)}"):
            FastDiME(**FEW).queries(three, generator, images, made(few))


def test_a_target_that_already_holds(generator, classifier, images):
    images = images.clone()
    images[[1, 4]] = images[[1, 4]].flip(-1)
    with pytest.raises(ValueError, match=r"2 of 5 rows are decided for it already \(row 1, 4\); leave them out"):
        FastDiME(**FEW).explain(classifier, generator, images, target=0)
    many = images[[1]].expand(7, -1, -1, -1)
    with pytest.raises(ValueError, match=r"7 of 7 rows .* \(row 0, 1, 2, 3, 4, \.\.\.\)"):
        FastDiME(**FEW).explain(classifier, generator, many, target=0)


@pytest.mark.parametrize("length", [4, 6])
def test_as_many_targets_as_rows(generator, classifier, images, length):
    with pytest.raises(ValueError, match=f"one class per row, 5, got {length}"):
        FastDiME(**FEW).explain(classifier, generator, images, target=torch.zeros(length, dtype=torch.int64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shut: shut.float(), r"expected bool of shape \(5, 1, 8, 8\), got torch.float32 of .*write locked > 0"),
        (lambda shut: shut[:, 0], r"got torch.bool of shape \(5, 8, 8\); .*locked\[:, None\]"),
        (lambda shut: shut[:3], r"expected bool of shape \(5, 1, 8, 8\), got torch.bool of shape \(3, 1, 8, 8\)"),
        (lambda shut: shut.tolist(), r"expected a tensor of bool, of shape \(5, 1, 8, 8\), got list"),
    ],
)
def test_locked_places_that_are_none(generator, classifier, images, change, message):
    shut = torch.zeros(5, 1, 8, 8, dtype=torch.bool)
    for explainer in (SCE(steps=10), FastDiME(**FEW)):
        with pytest.raises((ValueError, TypeError), match=f"locked: .*{message}"):
            explainer.explain(classifier, generator, images, locked=change(shut))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids: ids.int(), r"expected torch.int64, got torch.int32; write ids?.long\(\)"),
        (lambda ids: ids.double(), "expected torch.int64, got torch.float64"),
        (lambda ids: ids[:, None], r"expected shape \(B,\), got \(\d, 1\)"),
        (lambda ids: ids.tolist(), "expected a tensor, got list"),
    ],
)
def test_ids_that_are_none(generator, classifier, images, tmp_path, change, message):
    ids = change(torch.arange(5))
    with pytest.raises((ValueError, TypeError), match=f"ids: {message}"):
        FastDiME(**FEW).explain(classifier, generator, images, ids=ids)
    with pytest.raises((ValueError, TypeError), match=f"id: {message}"):
        explain_all(FastDiME(**FEW), classifier, generator, {"image": images, "id": ids}, folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (list, {}, r"images: expected a tensor .* got list; write torch.stack\(images\)"),
        (lambda x: x, {"blur": 4}, "expected an odd number of pixels, got 4"),
        (lambda x: x, {"threshold": 0.0}, r"expected count >= 1 and threshold > 0, got 2 and 0\.0"),
        (lambda x: x, {"threshold": float("nan")}, "threshold > 0, got 2 and nan"),
        (lambda x: x, {"count": 0}, "got 0 and 0.02"),
    ],
)
def test_what_diverse_cannot_do_is_said_before_the_first_explanation(
    generator, classifier, images, change, options, message
):
    with pytest.raises((ValueError, TypeError), match=message):
        SCE(steps=10).diverse(classifier, generator, change(images), **options)


def test_a_generator_of_another_resolution_or_of_other_channels(classifier):
    digits = from_scm(load_pretrained("morphodigits-spatial"))
    assert (digits.channels, digits.size) == (1, (28, 28))
    with pytest.raises(ValueError, match=r"draws images of 1 by 28 by 28 .*, got 1 by 32 by 32; resize the images"):
        FastDiME(**FEW).explain(classifier, digits, torch.rand(2, 1, 32, 32))
    with pytest.raises(ValueError, match=r"draws images of 1 by 28 by 28 .*, got 3 by 28 by 28"):
        FastDiME(**FEW).explain(classifier, digits, torch.rand(2, 3, 28, 28))


def test_a_model_is_told_which_of_its_classes_those_of_the_classifier_are():
    digits = load_pretrained("morphodigits-spatial")
    ten, two = from_scm(digits, label="digit"), from_scm(digits, label="digit", classes=(3, 8))
    told = two.told(torch.tensor([0, 1]))
    assert torch.equal(ten.told(torch.tensor([3, 8])), told)
    assert told[:, 3:].tolist() == torch.eye(10)[[3, 8]].tolist()
    with pytest.raises(ValueError, match="can be told 10 classes, and the classifier knows 2"):
        LDCE().queries(lambda x: x.mean((1, 2, 3)), ten, torch.rand(2, 1, 28, 28))
    assert len(LDCE().queries(lambda x: x.mean((1, 2, 3)), two, torch.rand(2, 1, 28, 28))) == 1
    for classes in ((3, 10), (-1, 8), (), (3.0, 8.0)):
        with pytest.raises(ValueError, match=r"expected as classes numbers from 0 to 9 of digit, .* got \("):
            from_scm(digits, label="digit", classes=classes)
    with pytest.raises(ValueError, match=r"write label= \(--parent\) as well"):
        from_scm(digits, classes=(3, 8))


@pytest.mark.parametrize(
    ("readers", "message"),
    [
        ({"size": lambda x: x}, "expected readers of other parents of image, thickness, intensity, slant, got 'size'"),
        ({"digit": lambda x: x}, "got 'digit'"),
        ({"slant": load_judge("morphodigits-digit")}, "slant: this predictor reads 'digit'"),
        (
            {"slant": lambda x: x.mean()},
            r"the reader of slant: .* value for each image, of shape \(1,\), got shape \(\)",
        ),
        ({"slant": lambda x: 0.1}, "a value for each image, .* got float"),
        ({"slant": lambda x: x.mean((2, 3))}, r"of shape \(1,\), got shape \(1, 1\)"),
        ({"slant": lambda x: x.mean((1, 2, 3)) / 0}, "the reader of slant: .*finite"),
    ],
)
def test_readers_that_do_not_fit_are_refused_before_anything_is_drawn(readers, message):
    digits = load_pretrained("morphodigits-spatial")
    first = lambda x: 99 * torch.eye(10)[0] + x.mean((1, 2, 3))[:, None]  # noqa: E731
    with pytest.raises(ValueError, match=message):
        LDCE().queries(first, from_scm(digits, label="digit", readers=readers), torch.zeros(1, 1, 28, 28), 1)
    with pytest.raises(ValueError, match=r"write label= \(--parent\) as well"):
        from_scm(digits, readers={"slant": lambda x: x.mean((1, 2, 3))})


def test_a_generator_whose_network_says_that_images_do_not_fit(generator, classifier, images):
    with pytest.raises(ValueError, match=r"does not take images of 3 by 8 by 8: .*; resize the images"):
        FastDiME(**FEW).explain(classifier, generator, images.expand(-1, 3, -1, -1))

    def doubled(x, timestep, condition):
        return torch.cat([x, x], 1)

    with pytest.raises(ValueError, match=r"answers \(1, 1, 8, 8\) with \(1, 2, 8, 8\); .* without variances"):
        FastDiME(**FEW).explain(classifier, Generator(doubled, generator.null), images)
    spoiled = Generator(lambda x, *_: x / 0 - x / 0, generator.null)
    with pytest.raises(FloatingPointError, match="what its network says is not finite"):
        FastDiME(**FEW).explain(classifier, spoiled, images)


def test_a_classifier_without_a_gradient(generator, classifier, images):
    @torch.no_grad()
    def closed(images):
        return classifier(images)

    for flat in (
        closed,
        lambda images: classifier(images).round().detach(),
        lambda images: (images > 0.5).sum((1, 2, 3)),
    ):
        with pytest.raises(ValueError, match="no gradient of its logits reaches the image"):
            FastDiME(**FEW).explain(flat, generator, images)
    with pytest.raises(FloatingPointError, match="the gradient of its logits is not finite"):
        FastDiME(**FEW).explain(lambda images: (images - images).sum((1, 2, 3)).sqrt(), generator, images)


def test_features_without_a_gradient(generator, classifier, images):
    weight = torch.ones(64, 3).double().requires_grad_()
    for encoder in (
        lambda x: x.flatten(1).detach(),
        torch.no_grad()(lambda x: x.flatten(1)),
        lambda x: x.flatten(1).detach() @ weight,
    ):
        with pytest.raises(ValueError, match="perceptual: no gradient of its features reaches the image"):
            FastDiME(**FEW, perceptual=encoder).explain(classifier, generator, images)
    own = FastDiME(**FEW, perceptual=lambda x: x.flatten(1) @ weight)
    assert len(own.queries(classifier, generator, images)) == 3


def test_a_surrogate_gives_the_gradient_in_its_place(generator, classifier, images):
    def closed(images):
        return classifier(images).detach()

    assert len(SCE(steps=10, surrogate=classifier).queries(closed, generator, images)) == 1
    with pytest.raises(ValueError, match="or give it a surrogate, Led"):
        SCE(steps=10, surrogate=closed).queries(classifier, generator, images)


def test_a_classifier_that_does_not_take_the_images(generator, images):
    narrow = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 8), torch.nn.Flatten()).double()
    with pytest.raises(ValueError, match=r"does not take images of shape \(2, 1, 8, 8\), torch.float64: .*channels"):
        FastDiME(**FEW).explain(narrow, generator, images)
    with pytest.raises(TypeError, match=r"expected logits, a tensor, got dict; .*lambda images: model"):
        FastDiME(**FEW).explain(lambda images: {"logits": images}, generator, images)
