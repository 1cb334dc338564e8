"""The steps of a training: which rows and which noise each one sees, and which are not taken."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Sampler

from causalcf.mechanisms.base import Mechanism
from causalcf.rows import moved
from causalcf.training.divergence import diverged, spoiled

VALIDATION_ROWS = 512


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
    """A mechanism under training.

    Attributes:
        skipped: how many steps were not taken, for a gradient that was too long.
    """

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
        self.skipped = 0
        self._too_long: list[float] = []  # norms of the skipped gradients of this stretch
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
        self._too_long = []
        seed = derived_seed(self.seed, self.name)
        batches = Batches(len(self.rows), self.recipe.batch, seed, first, last)
        return DataLoader(self.rows, sampler=batches, batch_size=None, collate_fn=None, generator=torch.Generator())

    def _loss(self, mechanism: Mechanism, batch: Mapping[str, Tensor], seed: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        parents = {parent: batch[parent] for parent in self.parent_names}
        return mechanism.loss(batch[self.name], parents, generator).mean()

    def on_after_batch_transfer(self, batch: Mapping[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """The rows in the dtype of the mechanism, as it will see them when it abducts."""
        return moved(batch, self.device, self.mechanism.dtype)

    def training_step(self, batch: Mapping[str, Tensor], index: int) -> Tensor:  # noqa: D102
        step = self.trainer.global_step
        loss = self.step_loss(batch, derived_seed(self.seed, self.name, "noise", step))
        self.last_loss = loss.item()
        if not math.isfinite(self.last_loss):
            raise self._diverged(f"the loss became {self.last_loss} at step {step}")
        return loss

    def step_loss(self, batch: Mapping[str, Tensor], seed: int) -> Tensor:
        """What a step lowers; `seed` decides all that is random in it."""
        return self._loss(self.mechanism, batch, seed)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Take no step along a gradient that is too long; it is not clipped yet here."""
        slopes = [p.grad for p in self.mechanism.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(slopes).item()
        if not math.isfinite(norm):
            at = f"at step {self.trainer.global_step}, where the loss was {self.last_loss:.6g}"
            raise self._diverged(f"the gradient's norm became {norm} {at}")
        if norm > self.recipe.skip:
            optimizer.zero_grad(set_to_none=True)
            self.skipped += 1
            self._too_long.append(norm)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: D102
        if self.average is not None:
            self.average.update_parameters(self.mechanism)

    def check_stretch(self) -> None:
        """Raise unless the steps since the last checkpoint led to something that may become one.

        Raises:
            FloatingPointError: weights, their average or the optimiser's state that are not finite.
            RuntimeError: no step was taken.
        """
        step, norms = self.trainer.global_step, self._too_long
        if len(norms) >= min(self.recipe.checkpoint, self.recipe.steps):
            raise RuntimeError(
                f"{self.name}: all {len(norms)} steps from {step - len(norms)} to {step - 1} were skipped: the norm of "
                f"their gradients was {min(norms):.4g} to {max(norms):.4g}, and skip={self.recipe.skip}; raise "
                f"recipe.skip above it, or lower recipe.learning_rate; {self._kept()}"
            )
        if bad := spoiled({**self.state_dict(), **_moments(self.trainer.optimizers[0].state_dict())}):
            at = f"after step {step - 1}, where the loss was {self.last_loss:.6g}"
            raise self._diverged(f"{bad} was no longer finite {at}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        checkpoint["skipped"] = self.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        if bad := spoiled({**checkpoint["state_dict"], **_moments(checkpoint["optimizer_states"][0])}):
            raise ValueError(
                f"{self.name}: the checkpoint {self.checkpoint} holds what is not finite ({bad}); delete it to start "
                "this node afresh"
            )
        self.skipped = checkpoint.get("skipped", 0)

    @property
    def checkpoint(self) -> Path:
        """Where the state of training is kept."""
        return self.folder / "last.ckpt"

    def _kept(self) -> str:
        good = self.checkpoint.exists()  # nothing else is written there, or read from there
        return f"the last good checkpoint is {self.checkpoint}" if good else "there is no checkpoint yet"

    def _diverged(self, what: str) -> FloatingPointError:
        advice = "lower recipe.learning_rate, and check the rows for extreme values"
        return diverged(self.name, what, self._kept(), advice)

    def result(self) -> Mechanism:
        """The mechanism whose weights are kept."""
        return self.mechanism if self.average is None else cast("Mechanism", self.average.module)

    @torch.no_grad()
    def validate(self) -> float:
        """The loss on the first validation rows, always under the same noise."""
        rows = self.validation_rows[: min(VALIDATION_ROWS, len(self.validation_rows))]
        batch = moved(rows, self.device, self.mechanism.dtype)
        return self._loss(self.result().eval(), batch, derived_seed(self.seed, self.name, "validation")).item()


def _moments(optimizer: Mapping[str, Any]) -> dict[str, Tensor]:
    """What an optimiser keeps of each weight."""
    states: Mapping[int, Mapping[str, Tensor]] = optimizer["state"]
    return {f"optimiser.{index}.{key}": value for index, state in states.items() for key, value in state.items()}
