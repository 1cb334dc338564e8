"""Compare what leads Pendulum's counterfactuals: causal representations, the parents, a classifier, an autoencoder.

    python -m experiments.scenes.choose pendulum
    python -m experiments.pendulum.evaluate

Each method is measured after one intervention on each factor, and the main ones along a sequence of five, or of up to
ten, with the noise of the first picture and with that of each answer. Interventions are drawn once per row, uniformly
over the training range. Sizes are those that were best on validation rows.
"""

from pathlib import Path

from experiments.scenes.evaluate import measure
from experiments.scenes.scene import PENDULUM, STEPS, STRAYED


def main(
    models: Path = Path("runs"),
    out: Path | None = None,
    rows: int = 30,
    only: list[str] | None = None,
    batch: int = 30,
    seed: int = 0,
    confounding: float = 0.0,
    steps: int = STEPS,
    stray: bool = False,
) -> None:
    """Write one JSON file per method; killed and started again, it goes on with those not asked in this way.

    Args:
        models: folder of `pendulum-nscm`, ...
        out: where the files go; by default where the scene's results are, of sequences of another length than five in a
            folder there.
        rows: test rows.
        only: names of methods; all by default.
        batch: rows at a time.
        seed: of the interventions, and of the models.
        confounding: of the rows that the models were trained on; the test rows are not confounded.
        steps: interventions of a sequence, 10 at most.
        stray: of rows whose shadows may stray, and models of them.
    """
    scene = STRAYED if stray else PENDULUM
    measure(scene, models, out or scene.folder(steps), rows, only, batch, seed, confounding, steps)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
