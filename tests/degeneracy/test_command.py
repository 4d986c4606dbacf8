"""`emergence llc` of a model that a module in the folder defines."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from emergence_stats.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")

MODULE = """
    import torch
    from torch import nn

    inputs = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))

    class Own(nn.Linear):
        def forward(self, inputs):
            return {"loss": super().forward(inputs).square().mean()}

    def build():
        model = nn.Linear(3, 1, bias=False)
        nn.init.zeros_(model.weight)
        return model

    def build_with_loss():
        model = Own(3, 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        return model

    def data():
        return (inputs,)

    columns = {"inputs": inputs}

    def loss(model, batch):
        return model(batch[0]).square().mean()
"""
NEEDED = ["--model", "mine:build", "--data", "mine:data", "--loss", "mine:loss"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "run").mkdir()
    for step in (10, 20):
        state = {"weight": torch.full((1, 3), 1.0 / step)}
        torch.save(state, tmp_path / "run" / f"step-{step}.pt")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["llc", *arguments])


def test_a_model_as_it_is() -> None:
    done = run(*NEEDED, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["llc"] == pytest.approx(1.5, rel=0.1)
    assert found["diagnostics"]["num_samples"] == 300
    assert "local learning coefficient" in run(*NEEDED, "--max-seconds", "1").stdout


def test_a_model_that_brings_its_loss_and_data_that_are_no_function() -> None:
    arguments = ["--model", "mine:build_with_loss", "--data", "mine:columns", "--part", "bias"]
    done = run(*arguments, "--json")
    assert json.loads(done.stdout)["diagnostics"]["num_parameters"] == 1


def test_one_checkpoint_is_put_into_the_model() -> None:
    losses = [
        json.loads(run(*NEEDED, "--checkpoint", f"run/step-{step}.pt", "--json").stdout)[
            "diagnostics"
        ]["initial_loss"]
        for step in (10, 20)
    ]
    assert losses[0] == pytest.approx(4.0 * losses[1])


@pytest.mark.parametrize("where", ["run/step-*.pt", "run"])
def test_several_checkpoints_are_a_table(where: str) -> None:
    done = run(*NEEDED, "--checkpoint", where, "--part", "weight", "--json")
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert [(row["step"], row["part"]) for row in rows] == [(10, "weight"), (20, "weight")]
    assert all(row["llc"] is not None for row in rows)


def test_a_folder_of_hugging_face_is_one_checkpoint(folder: Path) -> None:
    (folder / "checkpoint-7").mkdir()
    torch.save(nn.Linear(3, 1, bias=False).state_dict(), folder / "checkpoint-7/pytorch_model.bin")
    done = run(*NEEDED, "--checkpoint", "checkpoint-7", "--json")
    assert "llc" in json.loads(done.stdout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--model", "mine"], "--model: 'mine'; give package.module:function"),
        (
            ["--model", "yours:build"],
            "--model: No module named 'yours', asked for by 'yours:build'",
        ),
        (["--loss", "mine:los"], "--loss: mine has no 'los'; did you mean 'loss'?"),
        (["--model", "mine:data"], "model must be a torch.nn.Module, got tuple"),
        (["--checkpoint", "run/none-*.pt"], "run/none-*.pt: no such checkpoint"),
        (["--checkpoint", "gone.pt"], "gone.pt: no such checkpoint"),
        (["--part", "wieght"], "no parameter matches 'wieght'; did you mean 'weight'?"),
    ],
)
def test_what_cannot_be_used_is_one_line(change: list[str], message: str) -> None:
    done = run(*NEEDED, *change)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_folder_alone_is_for_the_package_that_trained_it() -> None:
    assert "configuration.json" in run("run").stderr
    assert "FOLDER" in run("--help").stdout
    assert "Missing option '--model'" in run("--data", "mine:data").stderr
