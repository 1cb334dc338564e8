"""Generators out of diffusers' pipelines: their networks, autoencoders, noise schedules and text encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import DiTTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from causalcf.diffusion.codec import Codec, Latents, Pixels
from causalcf.diffusion.schedule import FlowSchedule, NoiseSchedule, Tabulated
from causalcf.explain.generator import Conditions, Generator, Listed

PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}  # diffusers' name -> ours
SUPPORTED = """supported are, by the network that a pipeline holds,
  UNet2DModel, in pixels or in the latents of a vae or vqvae, with class labels or without (DDPM, DDIM, LDM)
  DiTTransformer2DModel, in latents, with class labels (DiT)
  UNet2DConditionModel, in latents, told by text alone (Stable Diffusion 1 and 2)
  SD3Transformer2DModel, in latents, told by text (Stable Diffusion 3)
with a scheduler that has alphas_cumprod, or a flow's fixed shift. Any other network is wrapped by hand, with parts of
causalcf.diffusion.schedule and causalcf.diffusion.codec, after pipeline.unet.requires_grad_(False).eval():
  Generator(network=lambda x, timestep, condition: pipeline.unet(x, timestep).sample, null=torch.zeros(0),
            schedule=Tabulated(pipeline.scheduler.alphas_cumprod), prediction="epsilon", codec=Latents(pipeline.vae))"""
# what a text-conditional UNet may want to be told beside the text; we would not know what
FURTHER = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim")
ONCE = {"num_images_per_prompt": 1, "do_classifier_free_guidance": False}  # texts as they are, no null beside each

Options = Callable[[Sequence[str] | None, Sequence[int] | None, str | int | None], tuple[Tensor, Conditions | None]]
Told = Callable[[Tensor], dict[str, Tensor]]  # conditions -> what a network of diffusers calls them


@dataclass(frozen=True)
class _Network:
    """A network of diffusers, asked as ours are; of an output with variances, the half that predicts.

    Args:
        network: of diffusers.
        told: how it takes conditions.
        multiple: what the sides of its input must be multiples of.
    """

    network: Any
    told: Told
    multiple: int = 1

    def __call__(self, x: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        channels, side, network = self.network.config.in_channels, self.multiple, type(self.network).__name__
        if x.shape[1] != channels or x.shape[2] % side or x.shape[3] % side:
            raise ValueError(
                f"this {network} reads {channels} channels and sides that are multiples of {side}, got "
                f"{tuple(x.shape[1:])}; resize the images"
            )
        if isinstance(self.network, DiTTransformer2DModel) and x.shape[2] != x.shape[3]:
            raise ValueError(f"this {network} reads squares only, got {tuple(x.shape[1:])}; crop the images")
        dtype = self.network.dtype
        condition = condition.to(x.device, dtype if condition.is_floating_point() else None)
        return self.network(x.to(dtype), timestep=timestep, **self.told(condition)).sample[:, :channels]


def from_diffusers(
    pipeline: Any,
    prompts: Sequence[str] | None = None,
    classes: Sequence[int] | None = None,
    null: str | int | None = None,
    any_size: bool = False,
) -> Generator:
    """The generator inside a pipeline of diffusers; its networks are frozen in place, and gradients reach their input.

    Only what a pipeline holds is used, never its own sampling, safety checker or watermark. Texts are encoded here,
    once. Variances that a network learned are left out: ancestral steps have those of their explainer's `variance`.

    Args:
        pipeline: DDPM, DDIM, LDM, DiT, Stable Diffusion 1, 2 or 3, or another one that holds the same parts.
        prompts: of a text-conditional pipeline, one for each class of the explained classifier; without them it is
            asked with the null prompt alone, which is enough for explainers that need no class.
        classes: of a class-conditional pipeline, its own number of each class of the explained classifier; by default
            they are the same, without the last if that says nothing.
        null: what says nothing: a prompt, by default the empty one, or the number of the class that was trained for it,
            by default the one that DiT has.
        any_size: whether images of other sizes are taken than the network was trained on, its `sample_size`; most
            networks run on them, and draw them badly.

    Raises:
        TypeError: the pipeline holds something else; the message says what is supported, and how to wrap the rest.
        ValueError: an argument does not fit the pipeline.

    Example:
        >>> import causalcf as cf
        >>> from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
        >>> unet = UNet2DModel(8, 3, 3, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        ...                    block_out_channels=(8,), norm_num_groups=4)
        >>> pipeline = DDPMPipeline(unet, DDPMScheduler())  # DDPMPipeline.from_pretrained("google/ddpm-celebahq-256")
        >>> cf.explain.generators.from_diffusers(pipeline).prediction
        'epsilon'
    """
    held = getattr(pipeline, "components", {})
    network: Any = held.get("unet", held.get("transformer"))
    autoencoder: Any = held.get("vae", held.get("vqvae"))
    scheduled, kind = _scheduled(held.get("scheduler")), _kind(pipeline, network, autoencoder)
    if scheduled is None or kind is None:
        raise TypeError(_unsupported(pipeline, held))
    for part in held.values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False).eval()
    codec = Pixels() if autoencoder is None else Latents(autoencoder, kind.multiple)
    nothing, conditions = kind.options(prompts, classes, null)
    channels = codec.seen if isinstance(codec, Latents) else network.config.in_channels
    size = None if any_size else _size(network, codec)
    return Generator(
        _Network(network, kind.told, kind.multiple), nothing, *scheduled, codec, conditions, channels, size
    )


def _size(network: Any, codec: Codec) -> tuple[int, int] | None:
    """Height and width of the images that a network was trained on, where it says so."""
    side = network.config.sample_size
    if side is None:
        return None
    height, width = (side, side) if isinstance(side, int) else side
    factor = codec.factor if isinstance(codec, Latents) else 1
    return factor * height, factor * width


def _scheduled(scheduler: Any) -> tuple[NoiseSchedule, str] | None:
    """The noise schedule and the prediction, if we know them."""
    if scheduler is None:
        return None
    config, table = scheduler.config, getattr(scheduler, "alphas_cumprod", None)
    prediction = config.get("prediction_type")
    shift = config.get("flow_shift" if prediction == "flow_prediction" else "shift")
    if prediction in PREDICTIONS and table is not None:
        return Tabulated(table), PREDICTIONS[prediction]
    if prediction in (None, "flow_prediction") and shift is not None and not config.get("use_dynamic_shifting"):
        return FlowSchedule(config.num_train_timesteps, shift), "flow"
    return None


@dataclass(frozen=True)
class _Kind:
    """How a kind of network is asked.

    Args:
        told: what it calls conditions.
        options: prompts, classes and null, as the user wrote them -> the null condition, and those of classes.
        multiple: what the sides of its input must be multiples of.
    """

    told: Told
    options: Options
    multiple: int = 1


def _kind(pipeline: Any, network: Any, autoencoder: Any) -> _Kind | None:
    """The kind of a network, if we know it."""
    config: Any = getattr(network, "config", None)
    # more channels than latents have: it also reads a mask, a depth, another image
    latent = autoencoder is not None and getattr(config, "in_channels", None) == autoencoder.config.latent_channels
    reads = latent and hasattr(pipeline, "encode_prompt")
    if isinstance(network, UNet2DModel) and config.class_embed_type is None and (latent or autoencoder is None):
        halved = 2 ** (len(config.block_out_channels) - 1)
        if network.class_embedding is None:
            return _Kind(lambda condition: {}, partial(_untold, network), halved)
        return _Kind(_labels, partial(_numbered, network, config.num_class_embeds, None), halved)
    if isinstance(network, DiTTransformer2DModel) and latent:
        dropped = config.num_embeds_ada_norm  # one row behind the classes, trained with their labels dropped
        return _Kind(_labels, partial(_numbered, network, dropped, dropped), config.patch_size)
    if isinstance(network, SD3Transformer2DModel) and reads:
        width, pooled = config.joint_attention_dim, config.pooled_projection_dim
        return _Kind(partial(_unpacked, width, pooled), partial(_read, partial(_packed, pipeline)), config.patch_size)
    if isinstance(network, UNet2DConditionModel) and reads and all(config.get(key) is None for key in FURTHER):
        return _Kind(lambda condition: {"encoder_hidden_states": condition}, partial(_read, partial(_texts, pipeline)))
    return None


def _labels(condition: Tensor) -> dict[str, Tensor]:
    return {"class_labels": condition}


def _packed(pipeline: Any, texts: list[str]) -> Tensor:
    """What Stable Diffusion 3 is told, `(tokens, pooled)`, in one row for each text."""
    tokens, _, pooled, _ = pipeline.encode_prompt(texts, None, None, **ONCE, device=pipeline.device)
    return torch.cat([tokens.flatten(1), pooled], dim=1)


def _unpacked(width: int, pooled: int, condition: Tensor) -> dict[str, Tensor]:
    """The inverse of `_packed`."""
    tokens, last = condition[:, :-pooled].unflatten(1, (-1, width)), condition[:, -pooled:]
    return {"encoder_hidden_states": tokens, "pooled_projections": last}


def _texts(pipeline: Any, texts: list[str]) -> Tensor:
    """The tokens of texts."""
    return pipeline.encode_prompt(texts, **ONCE, device=pipeline.device)[0]


def _untold(network: Any, prompts: Any, classes: Any, null: Any) -> tuple[Tensor, None]:
    """Options of a network that takes no condition."""
    if any(option is not None for option in (prompts, classes, null)):
        raise ValueError("from_diffusers: this pipeline is told nothing; leave out prompts=, classes= and null=")
    return torch.zeros(0, dtype=network.dtype, device=network.device), None


def _numbered(
    network: Any, known: int, dropped: int | None, prompts: Any, classes: Sequence[int] | None, null: Any
) -> tuple[Tensor, Conditions]:
    """Options of a network that knows its classes by number."""
    last = known - 1 if dropped is None else dropped
    null = dropped if null is None else null
    if prompts is not None or isinstance(null, str):
        raise ValueError("from_diffusers: this pipeline reads no text; leave out prompts=, and give null= as a number")
    if null is None:
        raise ValueError(
            f"from_diffusers: this network has {known} classes and does not say which of them says nothing; "
            f"write null={last} if it is the last"
        )
    same = range(known - (null == known - 1))
    ids = torch.as_tensor(same if classes is None else classes, dtype=torch.int64, device=network.device)
    if ids.ndim != 1 or len(ids) == 0 or ids.min() < 0 or ids.max() > last or not 0 <= null <= last:
        raise ValueError(
            f"from_diffusers: expected classes, and null, from 0 to {last}, got classes={classes}, null={null}"
        )
    return torch.tensor(null, device=network.device), Listed(ids, whole=True)


@torch.no_grad()
def _read(
    encode: Callable[[list[str]], Tensor], prompts: Sequence[str] | None, classes: Any, null: Any
) -> tuple[Tensor, Conditions | None]:
    """Options of a network that is told texts."""
    if classes is not None or isinstance(prompts, str) or not (null is None or isinstance(null, str)):
        raise ValueError(
            "from_diffusers: this pipeline is told by text; write prompts=[...], one for each class of the "
            'classifier, and null="" for the prompt that says nothing'
        )
    rows = encode([null or "", *(prompts or ())])
    return rows[0], Listed(rows[1:]) if prompts else None


def _unsupported(pipeline: Any, held: dict[str, Any]) -> str:
    parts = [f"{name} {type(part).__name__}" for name, part in held.items() if hasattr(part, "config")]
    return f"from_diffusers: {type(pipeline).__name__} holds {', '.join(parts) or 'no parts'}; {SUPPORTED}"
