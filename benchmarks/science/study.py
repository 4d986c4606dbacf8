"""The study of the three claims, recorded.

    python -m benchmarks.science.study --output FOLDER [--preset standard]

An hour and a quarter on two cores (short: a quarter of an hour); the folder's results are kept.
Writes `results/study-PRESET.json` and the report with its picture, `docs/study-PRESET.md`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from benchmarks.record import write_result
from simulator.study import STUDIES, reproduce, study
from simulator.study.headline import headline

DOCS = Path(__file__).parents[2] / "docs"
# Thousands of draws, from which nothing in the report is lost.
_LEFT_OUT = ("order_draws",)


def without_draws(value: Any) -> Any:
    """The answers without their posterior draws."""
    if isinstance(value, dict):
        return {k: without_draws(v) for k, v in value.items() if k not in _LEFT_OUT}
    return [without_draws(one) for one in value] if isinstance(value, list) else value


def main() -> None:
    """Runs the study and keeps what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the study")
    parser.add_argument("--preset", choices=sorted(STUDIES), default="standard")
    given = parser.parse_args()
    answers = reproduce(study(given.preset), given.output, progress=True)
    command = f"python -m benchmarks.science.study --output FOLDER --preset {given.preset}"
    print(write_result(f"study-{given.preset}", command, without_draws(answers)))
    name = f"study-{given.preset}"
    page = (given.output / "study.md").read_text(encoding="utf-8")
    (DOCS / f"{name}.md").write_text(page.replace("(study.png)", f"({name}.png)"), encoding="utf-8")
    shutil.copyfile(given.output / "study.png", DOCS / f"{name}.png")
    print("\n".join(headline(answers)))


if __name__ == "__main__":
    main()
