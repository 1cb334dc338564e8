"""Training one mechanism: Lightning inside, a pure function of data, options and seed, whenever it is killed."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import lightning as L
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from causalcf.mechanisms.base import Mechanism

CALIBRATION_ROWS = 10_000  # of an image's parents; attributes are calibrated on all rows
VALIDATION_ROWS = 512


class Rows(Protocol):
    """Rows of training data, by position or by column."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> Mapping[str, Tensor]: ...

    def columns(self, names: Sequence[str]) -> Mapping[str, Tensor]: ...  # noqa: D102


class _Columns:
    """A few columns, held in memory."""

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self.content = columns

    def __len__(self) -> int:
        return len(next(iter(self.content.values())))

    def __getitem__(self, index: Any) -> Mapping[str, Tensor]:
        return {name: value[index] for name, value in self.content.items()}


def derived_seed(*parts: object) -> int:
    """A seed that depends on all parts and on nothing else."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little")


class Batches(Sampler[list[int]]):
    """The positions of the rows of steps `first` to `last`: epochs of random order, decided by seed and step alone.

    Args:
        rows: how many rows there are.
        batch: rows per step.
        seed: of the order.
        first: the first step.
        last: one past the last step.
    """

    def __init__(self, rows: int, batch: int, seed: int, first: int, last: int) -> None:
        self.rows, self.batch, self.seed, self.first, self.last = rows, batch, seed, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        known, order = -1, torch.empty(0)
        for step in range(self.first, self.last):
            positions = []
            for place in range(step * self.batch, (step + 1) * self.batch):
                epoch, within = divmod(place, self.rows)
                if epoch != known:
                    generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", epoch))
                    known, order = epoch, torch.randperm(self.rows, generator=generator)
                positions.append(int(order[within]))
            yield positions


class Training(L.LightningModule):
    """A mechanism under training."""

    def __init__(
        self,
        mechanism: Mechanism,
        name: str,
        parents: Sequence[str],
        train: Any,
        val: Any,
        seed: int,
        folder: Path,
    ) -> None:
        super().__init__()
        self.mechanism, self.name, self.parent_names = mechanism, name, tuple(parents)
        self.recipe, self.seed, self.folder = mechanism.recipe, seed, folder
        self.rows, self.validation_rows = train, val
        self.last_loss, self.last_val = math.nan, math.nan
        decay = self.recipe.ema
        self.average = None
        if decay:
            self.average = AveragedModel(
                mechanism,
                avg_fn=lambda old, new, n: old + (new - old) * (1 - min(decay, (1 + int(n)) / (10 + int(n)))),
            )

    def configure_optimizers(self) -> Any:  # noqa: D102
        recipe = self.recipe
        optimizer = torch.optim.AdamW(
            self.mechanism.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=recipe.steps + 1, pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def train_dataloader(self) -> Any:
        """The steps up to the next checkpoint."""
        first = self.trainer.global_step
        last = min(first + self.recipe.checkpoint, self.recipe.steps)
        seed = derived_seed(self.seed, self.name)
        batches = Batches(len(self.rows), self.recipe.batch, seed, first, last)
        return DataLoader(self.rows, sampler=batches, batch_size=None, collate_fn=None, generator=torch.Generator())

    def _loss(self, mechanism: Mechanism, batch: Mapping[str, Tensor], seed: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        parents = {parent: batch[parent] for parent in self.parent_names}
        return mechanism.loss(batch[self.name], parents, generator).mean()

    def training_step(self, batch: Mapping[str, Tensor], index: int) -> Tensor:  # noqa: D102
        step = self.trainer.global_step
        loss = self.step_loss(batch, derived_seed(self.seed, self.name, "noise", step))
        if not loss.isfinite():
            last = self.folder / "last.ckpt"
            kept = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
            raise FloatingPointError(
                f"{self.name}: the loss became {loss.item()} at step {step}; {kept}; "
                "lower recipe.learning_rate, and check the rows for extreme values"
            )
        self.last_loss = loss.item()
        return loss

    def step_loss(self, batch: Mapping[str, Tensor], seed: int) -> Tensor:
        """What a step lowers; `seed` decides all that is random in it."""
        return self._loss(self.mechanism, batch, seed)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Take no step along a gradient that is too long; it is not clipped yet here."""
        slopes = [p.grad for p in self.mechanism.parameters() if p.grad is not None]
        if torch.nn.utils.get_total_norm(slopes) > self.recipe.skip:
            optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: D102
        if self.average is not None:
            self.average.update_parameters(self.mechanism)

    def result(self) -> Mechanism:
        """The mechanism whose weights are kept."""
        return self.mechanism if self.average is None else cast("Mechanism", self.average.module)

    @torch.no_grad()
    def validate(self) -> float:
        """The loss on the first validation rows, always under the same noise."""
        rows = self.validation_rows[: min(VALIDATION_ROWS, len(self.validation_rows))]
        batch = {name: value.to(self.device) for name, value in rows.items()}
        return self._loss(self.result().eval(), batch, derived_seed(self.seed, self.name, "validation")).item()


class _Checkpoint(L.Callback):
    """After every stretch of steps, the whole state of training, replaced in one move."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Training)
        last = pl_module.folder / "last.ckpt"
        trainer.save_checkpoint(last.with_suffix(".part"))
        os.replace(last.with_suffix(".part"), last)


class _Bar(L.Callback):
    """One progress bar for one node."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Training)
        total, done = pl_module.recipe.steps, trainer.global_step
        self.bar = tqdm(total=total, initial=done, desc=f"fit {pl_module.name}", unit="step", mininterval=1.0)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Training)
        self.bar.update()
        shown = {"loss": f"{pl_module.last_loss:.4f}"}
        if not math.isnan(pl_module.last_val):
            shown["val"] = f"{pl_module.last_val:.4f}"
        self.bar.set_postfix(shown, refresh=False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Training)
        if pl_module.validation_rows is not None:
            pl_module.last_val = pl_module.validate()
            pl_module.mechanism.train()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.bar.close()


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's remarks on hardware and on options that are chosen here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            yield
    finally:
        logger.setLevel(level)


def fit_mechanism(
    mechanism: Mechanism,
    name: str,
    parents: Sequence[str],
    train: Rows,
    val: Rows | None,
    *,
    folder: Path,
    seed: int,
    progress: bool,
) -> None:
    """Fit one mechanism in place; go on from the checkpoint in `folder`, or take the result from there.

    Weights depend on the data, the options and the seed, and not on when the training was interrupted: the rows and the
    noise of each step are functions of the seed and the step.

    Args:
        mechanism: built for its variable.
        name: of the variable.
        parents: names of its parents.
        train: training rows.
        val: validation rows.
        folder: of this node's checkpoints.
        seed: of everything random.
        progress: whether to show a bar.
    """
    if mechanism.known:
        return
    result = folder / "result.safetensors"
    if result.exists():
        take(mechanism, result)
        return
    folder.mkdir(parents=True, exist_ok=True)
    mechanism.initialise(derived_seed(seed, name, "weights"))
    needed = (name, *parents)
    image = bool(mechanism.variable.shape)
    data: Any = train if image else _Columns(train.columns(needed))
    sample = data[: min(CALIBRATION_ROWS, len(data))] if image else data[:]
    device, dtype = mechanism.device, mechanism.dtype
    mechanism.calibrate(sample[name].to(device), {parent: sample[parent].to(device) for parent in parents})
    if mechanism.learns:
        held = None
        if val is not None:
            held = val if image else _Columns(val.columns(needed))
        train_until_done(Training(mechanism, name, parents, data, held, seed, folder), progress)
    mechanism.to(device, dtype)
    mechanism.fitted = True
    mechanism.eval()
    keep(mechanism, result)


def keep(mechanism: Mechanism, path: Path) -> None:
    """Write the weights in one move."""
    beside = path.with_suffix(".part")
    save_file({key: tensor.cpu().contiguous() for key, tensor in mechanism.state_dict().items()}, beside)
    os.replace(beside, path)


def train_until_done(module: Training, progress: bool) -> None:
    """Train, from the last checkpoint in the module's folder, and leave the averaged weights in its mechanism."""
    mechanism, name, folder = module.mechanism, module.name, module.folder
    recipe, device = module.recipe, mechanism.device
    callbacks: list[L.Callback] = [*([_Bar()] if progress else []), _Checkpoint()]
    last = folder / "last.ckpt"
    with quiet():
        trainer = L.Trainer(
            accelerator="cpu" if device.type == "cpu" else "gpu",
            devices=1 if device.type == "cpu" else [device.index or 0],
            precision="bf16-mixed" if recipe.precision == "bfloat16" else "32-true",
            max_steps=recipe.steps,
            max_epochs=-1,
            reload_dataloaders_every_n_epochs=1,
            gradient_clip_val=recipe.clip,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(module, ckpt_path=last if last.exists() else None)
        except (RuntimeError, KeyError, EOFError, OSError) as error:
            if trainer.global_step == 0 and last.exists():
                raise ValueError(
                    f"{name}: the checkpoint {last} is damaged or of another model ({error}); delete it to start this "
                    "node afresh"
                ) from error
            raise
    if trainer.interrupted:
        raise KeyboardInterrupt
    mechanism.load_state_dict(module.result().state_dict())


def take(mechanism: Mechanism, path: Path) -> None:
    """Read weights that `keep` wrote."""
    try:
        tensors = load_file(path)
        mechanism.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} is damaged or of another model ({error}); delete it to fit this node again") from None
    mechanism.fitted = True
    mechanism.eval()
