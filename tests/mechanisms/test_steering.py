"""Which readers may steer, what they steer by, and what is refused before anything is sampled."""

import logging

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.diffusion.guidance import Sum
from causalcf.diffusion.readers import Reading
from causalcf.networks.classifier import Classifier, Regressor
from causalcf.units import Units

N = 4
PARENTS = {"a": cf.Continuous(), "b": cf.Continuous(), "k": cf.Categorical(3)}
UNITS = Units(torch.arange(N))


def built(kind=M.SpatialDiffusion, **options):
    torch.manual_seed(0)
    made = kind(widths=(8, 8), steps=4, **options).build(cf.Image(1, 8, 8), PARENTS).double().eval()
    made.network.unet.conv_out.weight.data *= 0.05
    return made


def brightness(image):
    return image.mean((1, 2, 3))


def contrast(image):
    return image.flatten(1).std(1)


@pytest.fixture
def rows():
    image = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return image, {"a": brightness(image) + 1, "b": contrast(image) - 1, "k": torch.tensor([0, 1, 2, 0])}


@pytest.mark.parametrize(
    ("relative", "offsets"), [(True, {"h.a", "h.b"}), (False, set()), (["b"], {"h.b"}), ([], set())]
)
def test_named_readings_change_by_as_much_as_their_parents(relative, offsets, rows):
    image, parents = rows
    mechanism = built(solver="2m").steer({"a": brightness, "b": contrast}, relative=relative)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    assert {site for site in noise if site.startswith("h.")} == offsets
    guidance = mechanism._guidance(noise, parents)
    assert isinstance(guidance, Sum)
    reading = guidance.parts[-1]
    assert isinstance(reading, Reading)
    read = {"a": brightness(image), "b": contrast(image)}
    for name in ("a", "b"):
        expected = read[name] if f"h.{name}" in offsets else parents[name]
        torch.testing.assert_close(reading.targets[name], expected)


def test_readers_steer_in_inference_mode_too(rows):
    image, parents = rows
    found = []
    for mode in (False, True):
        with torch.inference_mode(mode):
            mechanism = built(solver="2m").float().steer({"a": brightness})
            given = {**parents, "a": parents["a"].float(), "b": parents["b"].float()}
            noise = mechanism.abduct(image.float(), given, UNITS, "x")
            found.append(mechanism.predict(noise, {**given, "a": given["a"] + 1}))
    assert torch.equal(*found)


def test_readers_go_on_steering_under_other_options():
    steered = built(solver="2m").steer({"a": brightness}, relative=False, between=(1.0, 50.0))
    other = steered.but(omega=2.0)
    assert isinstance(other, M.SpatialDiffusion)
    assert dict(other.steering.readers) == {"a": brightness}
    assert other.steering.relative == frozenset()
    assert other.steering.between == (1.0, 50.0)
    with pytest.raises(ValueError, match="reference='null' of another"):
        built().steer({"a": brightness}, "omega", {"a": 0.1}).but(reference="factual")


def test_readers_steer_aligned_tokens_too(rows):
    image, parents = rows
    made = built(M.DynamicDiffusion, solver="ddim", passes_per_level=1)
    noise = made.abduct(image, parents, UNITS, "x")
    aim = {**parents, "a": brightness(image) + 0.1}
    plain = made.predict(noise, aim)
    steered = made.steer({"a": brightness}, relative=False).predict(noise, aim)
    assert (brightness(steered) - aim["a"]).abs().mean() < 0.5 * (brightness(plain) - aim["a"]).abs().mean()
    with pytest.raises(ValueError, match=r"DynamicDiffusion: steer.by='omega'. chooses the scale"):
        made.steer({"a": brightness}, "omega", {"a": 0.1})


def column(image):
    return brightness(image)[:, None]


def detached(image):
    return brightness(image.detach())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"a": Regressor(3)},), "the reader of a cannot read images of shape .1, 8, 8.: .*expected input"),
        (({"a": Classifier(1, 3)},), "expected the reader of a to give floats of shape .B,., got torch.int64"),
        (({"a": column},), r"expected the reader of a to give floats .* of shape \(2, 1\) for 2 images"),
        (({"a": detached},), "the reader of a is not differentiable in the image"),
        (({"k": lambda image: torch.full((len(image),), 7)}, "both"), "the reader of k gives class 7, but k has 3"),
        (({"k": brightness}, "both"), "expected the reader of k to give int64 classes"),
        (({"k": Classifier(1, 4).eval()}, "both"), "the reader of k knows 4 classes, but k has 3"),
        (({"a": lambda image: brightness(image) / 0},), "the reader of a gives nan for a blank image; leave it out"),
        (({"a": brightness}, "omega", {"a": -1.0}), "expected a tolerance >= 0 for a, got -1.0"),
        (({"a": brightness}, "both", {"zzz": 1.0}), "zzz is no parent of this image; it has a, b, k"),
        (({"a": brightness}, "reading", None, ["z"]), "z is no parent of this image"),
        (({"a": brightness}, "reading", None, ["b"]), "no reader reads b; give one, .'b': reader., or leave it out"),
        (({"a": brightness}, "reading", {"k": 1.0}), "no reader reads k; give one"),
        (
            ({"a": brightness}, "reading", None, True, (300.0, 400.0)),
            r"expected between to hold the signal to noise of a level at least, got .300.0, 400.0.; the levels of",
        ),
    ],
)
def test_readers_that_cannot_steer_are_refused_at_once(arguments, message):
    mechanism = built()
    mechanism.network.register_forward_hook(lambda *_: pytest.fail("asked the network"))
    readers, *rest = arguments
    readers = {
        name: reader.double() if isinstance(reader, torch.nn.Module) else reader for name, reader in readers.items()
    }
    with pytest.raises(ValueError, match=message):
        mechanism.steer(readers, *rest)


@pytest.mark.parametrize(("by", "relative"), [("reading", False), ("reading", True), ("omega", False)])
def test_a_reading_that_is_not_finite_names_its_reader(by, relative, rows):
    def black_alone(image):
        return brightness(image) + 0 / (image.amax((1, 2, 3)) == 0).double()

    image, parents = rows
    mechanism = built(solver="2m").steer({"b": black_alone}, by, {"b": 0.1}, relative)
    with pytest.raises(FloatingPointError, match="the reader of b is not finite on an image of this trajectory"):
        mechanism.predict(mechanism.abduct(image, parents, UNITS, "x"), parents)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (M.SpatialDiffusion, {"omega": float("nan")}, "expected a finite omega, got nan"),
        (M.SpatialDiffusion, {"omega": "2"}, "expected a finite omega, got '2'"),
        (M.SpatialDiffusion, {"tolerance": float("inf")}, "expected a finite tolerance >= 0, got inf"),
        (M.SpatialDiffusion, {"precision": "fp16"}, "expected precision 'auto', 'float32' or 'bfloat16', got 'fp16'"),
        (M.SpatialDiffusion, {"passes": 2.5}, "expected a whole number passes >= 1, got 2.5"),
        (M.SpatialDiffusion, {"replay": "no"}, "SpatialDiffusion: expected replay to be True or False, got 'no'"),
        (M.SpatialDiffusion, {"attention": 1}, "expected attention to be True or False, got 1"),
        (M.SpatialDiffusion, {"null_probability": "0.1"}, "expected a finite null_probability >= 0, got '0.1'"),
        (
            M.SpatialDiffusion,
            {"steps": 1, "solver": "belm"},
            "'belm' keeps .* nothing would change; give steps=2 or more",
        ),
        (M.SpatialDiffusion, {"steps": 1, "solver": "bidirectional ddim"}, "nothing would change; give steps=2"),
        (
            M.SpatialDiffusion,
            {"mixing": 0.9, "solver": "2m"},
            "mixing=0.9 is of the solvers 'bidirectional ddim' and 'edict', got solver='2m'; give mixing=None",
        ),
        (
            M.SpatialDiffusion,
            {"mixing": 0, "solver": "bidirectional ddim"},
            "expected 0 < mixing <= 1 with solver='bidirectional ddim', or None for its default, got 0",
        ),
        (M.SpatialDiffusion, {"mixing": 0.5, "solver": "edict"}, "expected 0.5 < mixing <= 1 with .*, got 0.5"),
        (M.SpatialDiffusion, {"mixing": "1", "solver": "edict"}, "expected 0.5 < mixing <= 1 with .*, got '1'"),
        (M.SpatialDiffusion, {"steps": 2.5}, "steps=2.5 do not fit .* use 1 to 999 whole steps"),
        (M.SpatialDiffusion, {"reference": "factual", "inversion": "guided"}, "leave one of the two out"),
        (M.SemanticDiffusion, {"kl_weight": float("nan")}, "expected a finite kl_weight >= 0, got nan"),
    ],
)
def test_options_without_a_meaning_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (M.SpatialDiffusion, {"patch": 0}, "UNet: expected a whole number patch >= 1, got 0"),
        (M.SpatialDiffusion, {"widths": ()}, "UNet: expected widths of at least one resolution"),
        (M.SpatialDiffusion, {"widths": (0, 8)}, r"UNet: expected widths that 8 divides, got \(0, 8\)"),
        (M.SpatialDiffusion, {"blocks": 0}, "UNet: expected a whole number blocks >= 1, got 0"),
        (M.VAE, {"widths": ()}, "VAE: expected widths of at least one resolution"),
        (M.HVAE, {"widths": ()}, "HVAE: expected widths of at least one resolution"),
        (M.VAE, {"widths": (32, 20)}, r"VAE: expected widths that 8 divides, got \(32, 20\); give \(32, 64\)"),
        (M.VAE, {"widths": (-8, 8)}, r"VAE: expected widths that 8 divides, got \(-8, 8\)"),
        (M.HVAE, {"widths": (12, 16)}, r"HVAE: expected widths that 8 divides, got \(12, 16\)"),
    ],
)
def test_networks_that_cannot_be_made_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options).build(cf.Image(1, 8, 8), {})


def test_widths_that_cannot_be_normalised_are_refused():
    with pytest.raises(ValueError, match=r"expected widths that 8 divides, got \(12, 8\)"):
        M.SpatialDiffusion(widths=(12, 8)).build(cf.Image(1, 8, 8), PARENTS)


@pytest.mark.parametrize(
    ("kind", "was", "changed"),
    [
        (M.SpatialDiffusion, {"null_probability": 0.0}, {"null_probability": 0.1, "omega": 2.0}),
        (M.SpatialDiffusion, {}, {"prediction": "v"}),
        (M.SpatialDiffusion, {}, {"schedule": "cosine"}),
        (M.SemanticDiffusion, {}, {"dropped": "parents"}),
    ],
)
def test_what_a_model_was_trained_with_cannot_be_changed_afterwards(kind, was, changed):
    mechanism = built(kind, **was)
    mechanism.but(**changed)  # not fitted yet
    mechanism.fitted = True
    name = next(iter(changed))
    with pytest.raises(ValueError, match=f"{name}=.* is what this {kind.__name__} was trained with"):
        mechanism.but(**changed)


def test_alignment_names_the_level_where_guidance_blows_up(rows):
    image, parents = rows
    made = built(M.DynamicDiffusion, solver="explicit ddim", passes_per_level=1, omega=1e308)
    made.network.unet.conv_out.bias.data += 10
    with pytest.raises(FloatingPointError, match=r"the step from level 4 of 4 is not finite .*, or omega=1e\+308,"):
        made.abduct(image, parents, UNITS, "x")


def test_an_inverse_step_that_does_not_converge_is_told(rows, caplog):
    image, parents = rows
    loud = built(solver="ddim", passes=2)
    loud.network.unet.conv_out.weight.data += 3.0
    with caplog.at_level(logging.WARNING):
        loud.abduct(image, parents, UNITS, "x")
    assert any("did not converge in 2 passes" in message for message in caplog.messages)
    caplog.clear()
    quiet = built(solver="ddim")
    quiet.network.unet.conv_out.weight.data *= 0.01
    quiet.abduct(image, parents, UNITS, "x")
    assert not caplog.messages


@pytest.mark.parametrize("by", ["omega", "both"])
def test_a_generator_that_is_told_nothing_has_no_scale_to_choose(by):
    parents = {"a": cf.Continuous(), "b": cf.Continuous()}
    options = {"structure": {}, "projector": (8,), "widths": (8, 8), "steps": 4}
    made = M.NSCMDiffusion(**options).build(cf.Image(1, 8, 8), parents).double().eval()
    with pytest.raises(ValueError, match=r"NSCMDiffusion: steer.by='.*'. chooses the scale .* take by='reading'"):
        made.steer({"a": brightness}, by, {"a": 0.1})
    assert made.steer({"a": brightness}).steering.readers
    assert made.but(by="both").steer({"a": brightness}, by, {"a": 0.1}).steering.by == by


def test_readers_go_on_steering_before_another_generator():
    made = M.NSCMDiffusion(structure={}, projector=(8,), widths=(8, 8), steps=4)
    made = made.build(cf.Image(1, 8, 8), {"a": cf.Continuous()}).double().eval()
    generator = M.SpatialDiffusion(widths=(8, 8)).build(cf.Image(1, 8, 8), {"a": cf.Continuous()}).double().eval()
    made.fitted = generator.fitted = True
    led = made.steer({"a": brightness}, relative=False).leading(generator)
    assert dict(led.steering.readers) == {"a": brightness}
    assert not led.steering.relative


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("by", "relative"), [("reading", True), ("reading", False), ("omega", False)])
def test_readers_see_images_of_the_dtype_that_they_were_tried_on(by, relative, dtype, rows):
    image, parents = rows
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1), torch.nn.Flatten(0)).to(dtype)
    mechanism = built(solver="2m").to(dtype).steer({"a": network}, by, {"a": 0.1}, relative)
    given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in parents.items()}
    found = mechanism.predict(mechanism.abduct(image.to(dtype), given, UNITS, "x"), given)
    assert found.dtype == dtype


@pytest.mark.parametrize(("by", "relative"), [("reading", True), ("omega", False)])
def test_readers_read_in_full_precision_where_the_denoiser_does_not(by, relative, rows):
    image, parents = rows
    given = {name: value.float() if value.is_floating_point() else value for name, value in parents.items()}
    found = []

    def reader(image):
        weight = torch.full((64, 1), 400.0 / 64)
        found.append((image.flatten(1) @ weight)[:, 0])
        return found[-1]

    mechanism = built(solver="2m", precision="bfloat16").float()
    mechanism = mechanism.steer({"a": reader}, by, {"a": 0.1}, relative)
    mechanism.predict(mechanism.abduct(image.float(), given, UNITS, "x"), given)
    assert len(found) > 2
    assert {read.dtype for read in found} == {torch.float32}


def test_a_class_that_is_not_to_change_asks_for_no_scale_however_it_is_read(rows):
    image, parents = rows
    made = built(solver="2m").steer({"k": lambda image: torch.zeros(len(image), dtype=torch.int64)}, "both")
    noise = made.abduct(image, parents, UNITS, "x")
    assert torch.equal(noise["h.k"], parents["k"])
    plain = built(solver="2m")
    expected = plain.predict(plain.abduct(image, parents, UNITS, "x"), parents)
    torch.testing.assert_close(made.predict(noise, parents), expected)
    scaled = made._guidance(noise, {**parents, "k": torch.tensor([0, 2, 2, 1])})
    assert scaled.wanted.tolist() == [False, True, False, True]
