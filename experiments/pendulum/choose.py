"""Choose the sizes of Pendulum's methods on validation rows.

python -m experiments.pendulum.choose
"""

from pathlib import Path

from experiments.scenes.choose import choose
from experiments.scenes.scene import PENDULUM


def main(
    models: Path = Path("runs"), out: Path = Path("experiments/pendulum/results"), rows: int = 12, batch: int = 12
) -> None:
    """Write `chosen.json`.

    Args:
        models: folder of `pendulum-nscm`.
        out: where the file goes.
        rows: validation rows.
        batch: rows at a time.
    """
    choose(PENDULUM, models, out, rows, batch)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
