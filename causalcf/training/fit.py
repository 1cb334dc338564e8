"""Training one mechanism: Lightning inside, a pure function of data, options and seed, whenever it is killed."""

from __future__ import annotations

import logging
import math
import os
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from causalcf.hardware import halves
from causalcf.mechanisms.base import Mechanism
from causalcf.rows import Columns, moved, spread
from causalcf.training.divergence import spoiled
from causalcf.training.steps import Training, derived_seed

log = logging.getLogger(__name__)

SAMPLED_ROWS = 512  # of images, beside whose parents and attributes all rows are calibrated on


class Rows(Protocol):
    """Rows of training data, by position or by column."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> Mapping[str, Tensor]: ...

    def columns(self, names: Sequence[str]) -> Mapping[str, Tensor]: ...  # noqa: D102


class _Checkpoint(L.Callback):
    """After every stretch of steps, the whole state of training, replaced in one move if it is good."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Training)
        pl_module.check_stretch()
        last = pl_module.checkpoint
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
        shown: dict[str, object] = {"loss": f"{pl_module.last_loss:.4f}"}
        if not math.isnan(pl_module.last_val):
            shown["val"] = f"{pl_module.last_val:.4f}"
        if pl_module.skipped:
            shown["skipped"] = pl_module.skipped
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
    """Without Lightning's remarks on hardware and on options that are chosen here; a process told to end says so.

    Lightning ends it at SIGTERM with status 0, and whatever came next in a script would go on without a model.
    """
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            yield
    except SIGTERMException as end:
        raise SystemExit(128 + signal.SIGTERM) from end
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

    Raises:
        ValueError: a single row, in which an attribute has no scale, or values in a unit that cannot hold them.
    """
    if mechanism.known:
        return
    result = folder / "result.safetensors"
    if result.exists():
        take(mechanism, result)
        return
    folder.mkdir(parents=True, exist_ok=True)
    mechanism.fitted = False  # if this fit does not end, what an earlier one left is gone
    mechanism.initialise(derived_seed(seed, name, "weights"))
    needed = (name, *parents)
    image = bool(mechanism.variable.shape)
    if len(train) < 2 and mechanism.learns and not image:
        raise ValueError(
            f"{name}: expected at least 2 rows, got 1, in which its {type(mechanism).__name__} finds no scale; "
            "give the training rows"
        )
    data: Any = train if image else Columns(train.columns(needed))
    sample = data[spread(len(data), SAMPLED_ROWS)] if image else data[:]
    scales = train.columns(parents) if image and parents else sample
    device, dtype = mechanism.device, mechanism.dtype
    try:
        mechanism.calibrate(sample[name].to(device), {parent: scales[parent].to(device) for parent in parents})
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if mechanism.learns:
        held = None
        if val is not None:
            held = val if image else Columns(val.columns(needed))
        train_until_done(Training(mechanism, name, parents, data, held, seed, folder), progress)
    mechanism.to(device, dtype).eval()
    shown = moved({needs: sample[needs] for needs in needed}, device, dtype)
    mechanism.settle(shown[name], {parent: shown[parent] for parent in parents})
    mechanism.fitted = True
    keep(mechanism, result)


def keep(mechanism: Mechanism, path: Path) -> None:
    """Write the weights in one move.

    Raises:
        FloatingPointError: weights that are not finite.
    """
    state = mechanism.state_dict()
    if bad := spoiled(state):
        raise FloatingPointError(
            f"{path} is not written: {bad} is not finite; check the rows for extreme values, and change their unit"
        )
    beside = path.with_suffix(".part")
    save_file({key: tensor.cpu().contiguous() for key, tensor in state.items()}, beside)
    os.replace(beside, path)


def train_until_done(module: Training, progress: bool) -> None:
    """Train, from the last checkpoint in the module's folder, and leave the averaged weights in its mechanism."""
    mechanism, name, last = module.mechanism, module.name, module.checkpoint
    recipe, device = module.recipe, mechanism.device
    callbacks: list[L.Callback] = [*([_Bar()] if progress else []), _Checkpoint()]
    with quiet():
        trainer = L.Trainer(
            accelerator="cpu" if device.type == "cpu" else "gpu",
            devices=1 if device.type == "cpu" else [device.index or 0],
            precision="bf16-mixed" if halves(recipe.precision, device) else "32-true",
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
    if module.skipped:
        log.warning(
            "%s: %d of %d steps were skipped, for a gradient longer than skip=%s; raise recipe.skip or lower "
            "recipe.learning_rate if that is many",
            name,
            module.skipped,
            recipe.steps,
            recipe.skip,
        )
    mechanism.load_state_dict(module.result().state_dict())


def take(mechanism: Mechanism, path: Path) -> None:
    """Read weights that `keep` wrote."""
    try:
        tensors = load_file(path)
        mechanism.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} is damaged or of another model ({error}); delete it to fit this node again") from None
    if bad := spoiled(tensors):
        raise ValueError(f"{path} holds what is not finite ({bad}); delete it to fit this node again")
    mechanism.fitted = True
    mechanism.eval()
