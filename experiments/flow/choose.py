"""Choose the sizes of Flow's methods on validation rows.

python -m experiments.flow.choose
"""

from pathlib import Path

from experiments.scenes.choose import choose
from experiments.scenes.scene import FLOW


def main(
    models: Path = Path("runs"), out: Path = Path("experiments/flow/results"), rows: int = 12, batch: int = 12
) -> None:
    """Write `chosen.json`.

    Args:
        models: folder of `flow-nscm`.
        out: where the file goes.
        rows: validation rows.
        batch: rows at a time.
    """
    choose(FLOW, models, out, rows, batch)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
