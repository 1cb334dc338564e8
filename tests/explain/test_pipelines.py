"""Generators out of diffusers' pipelines, tiny ones with random weights, in float64."""

import importlib.util
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import nn

from causalcf.diffusion.codec import Latents
from causalcf.diffusion.guidance import NoGuidance, guided
from causalcf.diffusion.schedule import FlowSchedule, Schedule, Tabulated
from causalcf.diffusion.solvers import DDIM, Explicit, noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain import LDCE, Agreed, FastDiME, MaskDiME, SCELiteHQ
from causalcf.explain.generators import Generator, from_diffusers
from causalcf.explain.pipelines import SUPPORTED

IDS = torch.arange(4)
PROMPTS = ["a sad face", "a smiling face"]
T = 20  # training steps, so that each of them is a level
WIDTH, POOLED = 8, 12
TEXTS = importlib.util.find_spec("transformers") is not None  # else diffusers cannot import its text pipelines


class Tokenizer:
    """Three numbers for each text."""

    model_max_length = 3
    added_tokens_encoder = ()
    tokenize = staticmethod(str.split)

    def __call__(self, texts, **options):
        words = [[*text.split(), "", "", ""][:3] for text in texts]
        return SimpleNamespace(input_ids=torch.tensor([[sum(map(ord, word)) % 50 for word in row] for row in words]))


class StandIn:
    """What the adapter asks of a text pipeline: parts, device, and texts in the shapes that the real ones give."""

    device = torch.device("cpu")

    def __init__(self, **components):
        self.components, self.encoders = components, nn.Embedding(50, WIDTH).double()
        self.pooling = nn.Linear(WIDTH, POOLED).double() if "transformer" in components else None
        vars(self).update(components)

    def encode_prompt(
        self, prompt, prompt_2=None, prompt_3=None, *, device, num_images_per_prompt, do_classifier_free_guidance
    ):
        tokens = self.encoders(Tokenizer()(prompt).input_ids.to(device))
        if self.pooling is None:
            return tokens, None
        return tokens, None, self.pooling(tokens.mean(1)), None


def ddim(**options):
    return DDIMScheduler(num_train_timesteps=T, **{"clip_sample": False, **options})


def unet(channels, **options):
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "norm_num_groups": 4}
    shape = {"in_channels": channels, "out_channels": channels, "block_out_channels": (8, 8), "layers_per_block": 1}
    return diffusers.UNet2DModel(**{"sample_size": 8, **shape, **blocks, **options})


def autoencoder(**options):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.AutoencoderKL(
        3, 3, **blocks, block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, **options
    )


def codebook():
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.VQModel(
        3, 3, **blocks, block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, num_vq_embeddings=64
    )


def ddim_pipeline(network=(), **options):
    return diffusers.DDIMPipeline(unet(3, **{"sample_size": 16, **dict(network)}), ddim(clip_sample=True, **options))


def classes_pipeline():
    return diffusers.DDPMPipeline(
        unet(3, sample_size=(16, 16), num_class_embeds=3, out_channels=6), ddim(clip_sample=True)
    )


def ldm_pipeline():
    return diffusers.LDMPipeline(codebook(), unet(4), ddim(beta_schedule="scaled_linear"))


def dit_pipeline():
    transformer = diffusers.DiTTransformer2DModel(
        2, 4, 4, out_channels=8, num_layers=1, norm_num_groups=4, sample_size=8, num_embeds_ada_norm=5
    )
    nn.init.normal_(transformer.proj_out_2.weight, std=0.3)
    return diffusers.DiTPipeline(transformer, autoencoder(), ddim())


def sd_pipeline(**options):
    blocks = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    blocks["up_block_types"] = "UpBlock2D", "CrossAttnUpBlock2D"
    network = diffusers.UNet2DConditionModel(
        **{"sample_size": 8, "in_channels": 4, **options},
        out_channels=4,
        **blocks,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
    )
    parts = {"vae": autoencoder(), "unet": network, "scheduler": ddim(prediction_type="v_prediction", steps_offset=1)}
    if not TEXTS:
        return StandIn(**parts)
    import transformers

    config = clip(transformers)
    parts |= {"text_encoder": transformers.CLIPTextModel(config), "tokenizer": Tokenizer()}
    return diffusers.StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def sd3_pipeline():
    transformer = diffusers.SD3Transformer2DModel(
        8, 2, 4, 2, 4, 2, 2 * WIDTH if TEXTS else WIDTH, 8, POOLED, 4, pos_embed_max_size=8
    )
    parts = {
        "vae": autoencoder(scaling_factor=1.5, shift_factor=0.1),
        "transformer": transformer,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=2.5),
    }
    if not TEXTS:
        return StandIn(**parts)
    import transformers

    parts["text_encoder_3"] = parts["tokenizer_3"] = None  # T5
    for name in ("", "_2"):
        parts["text_encoder" + name] = transformers.CLIPTextModelWithProjection(clip(transformers))
        parts["tokenizer" + name] = Tokenizer()
    return diffusers.StableDiffusion3Pipeline(**parts)


def clip(transformers):
    return transformers.CLIPTextConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=POOLED // 2,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=3,
        bos_token_id=48,
        eos_token_id=49,
    )


def told_nothing(pipeline, x, t, classes):
    return pipeline.unet(x, t).sample


def told_class(pipeline, x, t, classes):
    return pipeline.unet(x, t, class_labels=classes).sample[:, :3]


def told_dit(pipeline, x, t, classes):
    return pipeline.transformer(x, t.expand(len(x)), class_labels=classes).sample[:, :4]


def told_text(pipeline, x, t, classes):
    texts = [PROMPTS[index] for index in classes]
    return pipeline.unet(x, t, pipeline.encode_prompt(texts, **ONCE)[0]).sample


def told_texts(pipeline, x, t, classes):
    texts = [PROMPTS[index] for index in classes]
    tokens, _, pooled, _ = pipeline.encode_prompt(texts, prompt_2=None, prompt_3=None, **ONCE)
    return pipeline.transformer(x, tokens, pooled, t.expand(len(x))).sample


ONCE = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
DIME = MaskDiME, {"steps": T, "depth": 5, "scales": (50.0,), "share": 0.2, "dilation": 3}
LITE = SCELiteHQ, {"steps": T, "strength": 0.3, "scales": (3.0,), "threshold": 0.01}
AGREED = LDCE, {"steps": T, "strength": 0.3, "angle": 180.0}
KINDS = {  # pipeline, options of the adapter, its network as the pipeline asks it, and an explainer
    "DDIM": (ddim_pipeline, {}, told_nothing, DIME),
    "DDPM with classes": (classes_pipeline, {"null": 2}, told_class, AGREED),
    "LDM": (ldm_pipeline, {}, told_nothing, LITE),
    "DiT": (dit_pipeline, {"classes": [0, 1]}, told_dit, AGREED),
    "Stable Diffusion": (sd_pipeline, {"prompts": PROMPTS}, told_text, AGREED),
    "Stable Diffusion 3": (sd3_pipeline, {"prompts": PROMPTS}, told_texts, LITE),
}
BY_NAME = {"argvalues": KINDS.values(), "ids": KINDS.keys()}


def double(make, **options):
    torch.manual_seed(0)
    pipeline = make(**options)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.double()
    return pipeline


def classifier(images):
    """Whether the left half is brighter than the right."""
    half = images.shape[-1] // 2
    return 20 * (images[..., :half].mean((1, 2, 3)) - images[..., half:].mean((1, 2, 3)))


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("make", "options", "ask", "explainer"), **BY_NAME)
def test_images_are_encoded_and_gradients_reach_them(make, options, ask, explainer, images):
    pipeline = double(make)
    generator = from_diffusers(pipeline, **options)
    x = generator.codec.encode(images)
    latent = isinstance(generator.codec, Latents)
    assert x.shape == ((4, 4, 8, 8) if latent else images.shape)
    assert generator.codec.decode(x).shape == images.shape
    if not latent:
        torch.testing.assert_close(generator.codec.decode(x), images)
    assert torch.equal(generator.nothing(4)[0], generator.null)
    leaf = images.clone().requires_grad_()
    levels = generator.levels(T)
    noisy = noised(generator.codec.encode(leaf), torch.randn_like(x), 9, levels)
    e = generator.denoiser(levels).epsilon(noisy, 9, generator.nothing(4))
    clean = (noisy - levels.sigma[9] * e) / levels.alpha[9]
    generator.codec.decode(clean)[0].sum().backward()
    assert (leaf.grad[0] != 0).any((1, 2)).all()
    assert (leaf.grad[1:] == 0).all()
    parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    assert not any(part.training for part in parts)
    assert not any(parameter.requires_grad for part in parts for parameter in part.parameters())
    assert not generator.nothing(1).requires_grad


@pytest.mark.parametrize(("make", "options", "ask", "explainer"), **BY_NAME)
def test_a_step_is_that_of_the_pipelines_scheduler(make, options, ask, explainer, images):
    pipeline = double(make)
    generator = from_diffusers(pipeline, **options)
    classes = torch.tensor([0, 1, 1, 0])
    condition = generator.told(classes) if generator.conditions else generator.nothing(4)
    levels, scheduler = generator.levels(T), pipeline.components["scheduler"]
    model = guided(generator.denoiser(levels), condition, NoGuidance())
    if isinstance(scheduler, DDIMScheduler):
        scheduler.set_timesteps(T)
        times, more = torch.arange(T).flip(0), {"use_clipped_model_output": True}
    else:
        even = ((torch.linspace(998, 0, T, dtype=torch.float64)).round() + 1) / 1000
        scheduler.set_timesteps(sigmas=even.tolist())  # which it shifts
        times, more = scheduler.timesteps, {}
    torch.testing.assert_close(times.double(), levels.timestep[1:].flip(0).double(), atol=0, rtol=1e-6)
    for k in (T, 7, 1):
        x = noised(generator.codec.encode(images), torch.randn_like(generator.codec.encode(images)), k, levels)
        ours = DDIM(Explicit()).step(model, (x,), k, levels)[0]
        scheduler._step_index = None
        t = times[T - k]
        theirs = scheduler.step(ask(pipeline, x, t, classes), t, x, **more).prev_sample
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(ours, x, atol=1e-4)


@pytest.mark.parametrize(("make", "options", "ask", "explainer"), **BY_NAME)
def test_explainers_run_and_rows_do_not_depend_on_their_batch(make, options, ask, explainer, images):
    generator = from_diffusers(double(make), **options)
    kind, few = explainer
    whole = kind(**few, batch=4).explain(classifier, generator, images, ids=IDS)
    parts = kind(**few, batch=3).explain(classifier, generator, images, ids=IDS)
    torch.testing.assert_close(whole.counterfactuals, parts.counterfactuals, atol=1e-7, rtol=0)
    assert not torch.allclose(whole.counterfactuals, images, atol=0.01)
    assert (whole.backward > 0).all() == (kind is LDCE)
    free = kind(**{**few, "scales": (1e-9,)}).explain(classifier, generator, images, ids=IDS)
    assert whole.after.mean() > free.after.mean()


@pytest.mark.parametrize("parity", [None, "published"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((FastDiME, {"masking": masking, "threshold": 0.6, "dilation": 1}) for masking in ("self", "2", "2+")),
        (MaskDiME, {"dilation": 1}),
    ],
)
def test_masks_of_latents_are_shown_at_the_size_of_the_images(kind, options, parity, images):
    generator = from_diffusers(double(ldm_pipeline))
    few = {"steps": T, "depth": 3, "scales": (8.0,), "parity": parity, **options}
    whole = kind(**few, batch=4).explain(classifier, generator, images, ids=IDS)
    parts = kind(**few, batch=3).explain(classifier, generator, images, ids=IDS)
    torch.testing.assert_close(whole.counterfactuals, parts.counterfactuals, atol=1e-7, rtol=0)
    assert whole.mask.shape == (4, 1, 16, 16)
    assert 0 < whole.mask.double().mean() < 1
    assert torch.equal(whole.mask, whole.mask[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    if (kind, parity) != (MaskDiME, "published"):  # whose result keeps the noise of the lowest level
        kept = ~whole.mask.expand_as(images)
        assert torch.equal(whole.counterfactuals[kept], images[kept])


@pytest.mark.parametrize(
    ("make", "more", "dtype"),
    [
        (ddim_pipeline, {"batch_size": 2, "use_clipped_model_output": True}, torch.float64),
        (ldm_pipeline, {"batch_size": 2}, torch.float32),  # draws its noise in no other
        (dit_pipeline, {"class_labels": [1, 4], "guidance_scale": 1.0}, torch.float64),
    ],
)
def test_a_chain_ends_where_the_pipelines_own_does(make, more, dtype):
    pipeline = double(make).to(dtype)
    pipeline.set_progress_bar_config(disable=True)
    generator = from_diffusers(pipeline)  # in eval mode from here on
    theirs = pipeline(**more, num_inference_steps=T, generator=torch.Generator().manual_seed(3), output_type="np")
    shape = (3, 16, 16) if make is ddim_pipeline else (4, 8, 8)
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    condition = generator.told(torch.tensor([1, 4])) if generator.conditions else generator.nothing(2)
    levels = generator.levels(T)
    with torch.no_grad():
        x = generate(guided(generator.denoiser(levels), condition, NoGuidance()), noise, levels, DDIM(Explicit()))
        ours = generator.codec.decode(x).clamp(0, 1).permute(0, 2, 3, 1)
    assert ours.std() > 0.05
    torch.testing.assert_close(ours.float(), torch.as_tensor(theirs.images).float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_what_a_network_predicts_is_what_its_scheduler_says(prediction, images):
    pipeline = double(ddim_pipeline, prediction_type=prediction)
    generator, scheduler, k = from_diffusers(pipeline), pipeline.scheduler, 12
    scheduler.set_timesteps(T)
    levels, x = generator.levels(T), 2 * images - 1
    model = guided(generator.denoiser(levels), generator.nothing(4), NoGuidance())
    ours = DDIM(Explicit()).step(model, (x,), k, levels)[0]
    theirs = scheduler.step(pipeline.unet(x, k - 1).sample, k - 1, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_classes_and_texts_say_different_things(images):
    x = 2 * images[:2, :, :8, :8] - 1
    generator = from_diffusers(double(classes_pipeline), classes=[1, 0], null=2)
    assert generator.told(torch.tensor([0, 1])).tolist() == [1, 0]
    assert generator.nothing(2).tolist() == [2, 2]
    assert from_diffusers(double(dit_pipeline)).null == 5
    for pipeline, options in ((sd_pipeline, {}), (sd3_pipeline, {})):
        generator = from_diffusers(double(pipeline), PROMPTS, **options)
        other = from_diffusers(double(pipeline), PROMPTS, null=PROMPTS[0])
        torch.testing.assert_close(other.null, generator.told(torch.tensor([0]))[0])
        assert not torch.allclose(other.null, generator.null)
        x = torch.randn(1, 4, 8, 8, dtype=torch.float64)
        denoiser = generator.denoiser(generator.levels(T))
        e = [denoiser.epsilon(x, 9, condition[None]) for condition in (generator.null, *generator.conditions.rows)]
        assert not torch.allclose(e[0], e[1], atol=1e-6)
        assert not torch.allclose(e[1], e[2], atol=1e-6)


def test_networks_may_compute_in_fewer_bits(images):
    pipeline = double(dit_pipeline)
    whole = from_diffusers(pipeline)
    x, levels = whole.codec.encode(images), whole.levels(T)
    e = whole.denoiser(levels).epsilon(x, 9, whole.nothing(4))
    pipeline.to(torch.bfloat16)
    short = from_diffusers(pipeline)
    assert short.codec.encode(images).dtype == short.codec.decode(x).dtype == torch.float64
    found = short.denoiser(levels).epsilon(x, 9, short.nothing(4))
    assert found.dtype == torch.float64
    assert 0 < (found - e).std() < 0.1 * e.std()


def test_a_table_is_the_schedule_that_it_was_made_of():
    for spacing in ("uniform", "quadratic", "log-snr"):
        ours, table = (schedule.levels(30, spacing) for schedule in (Schedule(), Tabulated(Schedule().alpha_bar)))
        assert torch.equal(ours.timestep, table.timestep)
        assert torch.equal(ours.alpha, table.alpha)


@pytest.mark.parametrize(
    "schedule", [FlowSchedule(), Tabulated(DDIMScheduler(rescale_betas_zero_snr=True).alphas_cumprod)]
)
def test_no_level_is_without_signal(schedule):
    assert schedule.trained().alpha[-1] == 0
    levels = Generator(lambda x, t, c: x, torch.zeros(0), schedule).levels(10)
    assert (levels.alpha[0], levels.sigma[0], levels.steps) == (1, 0, 10)
    assert (levels.alpha > 0).all()
    assert (levels.alpha.diff() < 0).all()
    assert (levels.sigma.diff() > 0).all()
    with pytest.raises(ValueError, match="the last step with any signal"):
        schedule.levels(5, top=schedule.last + 1)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_levels_are_those_of_the_scheduler(shift):
    reference = FlowMatchEulerDiscreteScheduler(shift=shift)
    trained = FlowSchedule(1000, shift).trained()
    torch.testing.assert_close(trained.sigma.flip(0).float(), reference.sigmas)
    torch.testing.assert_close(trained.timestep.flip(0).float(), reference.timesteps)
    torch.testing.assert_close(trained.alpha + trained.sigma, torch.ones(1000).double())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tabulated(torch.tensor([0.5])), "expected finite alpha_bar of shape"),
        (lambda: Tabulated(torch.tensor([0.1, 0.5, 0.9])), "expected alpha_bar to fall with t"),
        (lambda: FlowSchedule(shift=0.0), "shift > 0"),
    ],
)
def test_schedules_without_a_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (ldm_pipeline, (3, 18, 16), "images of 18x16 do not fit this autoencoder.*resize them to 20x16"),
        (dit_pipeline, (3, 16, 14), "resize them to 16x16"),
        (dit_pipeline, (3, 16, 32), "reads squares only"),
        (sd3_pipeline, (1, 16, 16), r"images of 3 channels, got 1; .*images.expand\(-1, 3, -1, -1\)"),
        (ddim_pipeline, (3, 15, 16), "UNet2DModel reads 3 channels and sides that are multiples of 2"),
        (ddim_pipeline, (1, 16, 16), "UNet2DModel reads 3 channels"),
    ],
)
def test_images_that_do_not_fit_are_refused(make, shape, message):
    kind, few = LITE
    with pytest.raises(ValueError, match=message):
        kind(**few).explain(classifier, from_diffusers(double(make), any_size=True), torch.rand(2, *shape).double())


@pytest.mark.parametrize(
    "make", [ddim_pipeline, classes_pipeline, ldm_pipeline, dit_pipeline, sd_pipeline, sd3_pipeline]
)
def test_images_of_another_size_than_the_network_was_trained_on_are_refused(make, images, monkeypatch):
    kind, few = LITE
    null = {"null": 2} if make is classes_pipeline else {}
    generator = from_diffusers(double(make), **null)
    assert generator.size == (16, 16)
    monkeypatch.setattr(kind, "attempt", lambda *_: pytest.fail("sampled"))
    with pytest.raises(ValueError, match=r"draws images of 3 by 16 by 16 .*, got 3 by 8 by 8; .*any_size=True"):
        kind(**few).explain(classifier, generator, images[..., :8, :8])
    free = from_diffusers(double(make), **null, any_size=True)
    assert free.size is None
    assert len(kind(**few).queries(classifier, free, images[..., :8, :8])) == 1


def test_a_network_that_does_not_say_its_size_draws_all():
    assert from_diffusers(double(lambda: ddim_pipeline({"sample_size": None}))).size is None
    wide = from_diffusers(double(lambda: ddim_pipeline({"sample_size": [8, 16]})))
    assert wide.size == (8, 16)


def test_what_a_pipeline_cannot_be_told_is_refused(images):
    for make in (ldm_pipeline, sd_pipeline):
        with pytest.raises(ValueError, match="this generator cannot be told a class"):
            LDCE(steps=T).explain(classifier, from_diffusers(double(make)), images)
    with pytest.raises(ValueError, match="class 1: this generator was told what 1 classes are"):
        dark = images[classifier(images) < 0]
        LDCE(steps=T).explain(classifier, from_diffusers(double(sd_pipeline), PROMPTS[:1]), dark, target=1)


@pytest.mark.parametrize("method", [LDCE, Agreed])
def test_it_is_told_all_classes_of_the_classifier_and_no_others(images, method, monkeypatch):
    monkeypatch.setattr(method, "attempt", lambda *_: pytest.fail("sampled"))
    five = from_diffusers(double(dit_pipeline))
    with pytest.raises(ValueError, match=r"can be told 5 classes, and the classifier knows 2; .* classes=\(3, 8\)"):
        method().explain(classifier, five, images)
    kind, few = DIME
    assert len(kind(**few).queries(classifier, five, images)) == 1  # asks for none
    for known in (
        from_diffusers(double(dit_pipeline), classes=[4, 1]),
        from_diffusers(double(classes_pipeline), null=2),
    ):
        assert len(method().queries(classifier, known, images)) == 1


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (ddim_pipeline, {"classes": [0]}, "is told nothing; leave out"),
        (classes_pipeline, {}, "has 3 classes and does not say which of them says nothing; write null=2"),
        (classes_pipeline, {"null": 3}, "expected classes, and null, from 0 to 2"),
        (classes_pipeline, {"null": 2, "classes": [0, 7]}, "expected classes, and null, from 0 to 2"),
        (dit_pipeline, {"prompts": PROMPTS}, "reads no text"),
        (sd_pipeline, {"prompts": "a face"}, r"write prompts=\[...\], one for each class"),
        (sd_pipeline, {"classes": [0, 1]}, "is told by text"),
    ],
)
def test_options_that_do_not_fit_the_pipeline_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        from_diffusers(make(), **options)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: nn.Linear(1, 1), "Linear holds no parts"),
        (lambda: sd_pipeline(in_channels=9), "unet UNet2DConditionModel"),  # inpainting
        (lambda: sd_pipeline(num_class_embeds=3), "unet UNet2DConditionModel"),
        (lambda: ddim_pipeline({"class_embed_type": "timestep"}), "DDIMPipeline holds unet UNet2DModel"),
        (
            lambda: StandIn(unet=unet(3), scheduler=diffusers.ScoreSdeVeScheduler()),
            "StandIn holds unet UNet2DModel, scheduler ScoreSdeVeScheduler",
        ),
        (
            lambda: StandIn(unet=unet(3), scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)),
            "scheduler FlowMatchEulerDiscreteScheduler",
        ),
    ],
)
def test_other_pipelines_are_refused_with_the_line_to_write(make, found):
    with pytest.raises(TypeError, match=rf"{found}(.|\n)*supported are(.|\n)*Generator\(network=lambda x, timestep"):
        from_diffusers(make())


def test_the_line_to_write_works(images):
    pipeline = double(lambda: StandIn(unet=unet(4), vae=autoencoder(), scheduler=ddim()))
    line = SUPPORTED.partition("eval():\n")[2].strip()
    names = {"Generator": Generator, "Tabulated": Tabulated, "Latents": Latents, "torch": torch, "pipeline": pipeline}
    by_hand, ours = eval(line, names), from_diffusers(pipeline)
    x, levels = ours.codec.encode(images), ours.levels(T)
    found = [generator.denoiser(levels).epsilon(x, 9, generator.nothing(4).double()) for generator in (by_hand, ours)]
    torch.testing.assert_close(*found)
