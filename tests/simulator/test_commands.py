"""The commands: their help, and what they refuse by name."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from emergence_stats.cli import main
from simulator.training.config import TrainingConfig


class TestCommandLine:
    def run(self, *arguments):
        return CliRunner().invoke(main, list(arguments))

    def test_every_command_has_help(self):
        for name in main.list_commands(None):
            result = self.run(name, "--help")
            assert result.exit_code == 0, name
            assert "Usage:" in result.output

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--widht", "32"], "--width"),
            (["--width", "30"], "width: 30 does not divide"),
            (["--width", "wide"], "is not a valid integer"),
            (["--preset", "dmo"], "did you mean 'demo'"),
            (["--seeds", "a,b"], "give whole numbers"),
            (["--config", "absent.toml"], "no file absent.toml"),
            (["--time-step", "1.0"], "time_step"),
        ],
    )
    def test_bad_arguments_exit_with_2_and_say_what_to_do(self, tmp_path, arguments, message):
        output = tmp_path / "out"
        result = self.run("train", "--output", str(output), *arguments)
        assert result.exit_code == 2
        assert message in result.output
        assert "Traceback" not in result.output
        # Nothing was begun that a corrected command would trip over.
        assert not output.exists() or not any(output.glob("*.json"))

    def test_another_configuration_is_refused(self, tmp_path):
        (tmp_path / "configuration.json").write_text(TrainingConfig(depth=2).to_json())
        result = self.run("train", "--output", str(tmp_path), "--preset", "demo", "--depth", "3")
        assert result.exit_code == 2
        assert "depth: 2 -> 3" in result.output
        assert json.loads((tmp_path / "configuration.json").read_text())["depth"] == 2

    def test_a_folder_with_something_else_is_refused(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("precious")
        result = self.run("train", "--output", str(tmp_path))
        assert result.exit_code == 2
        assert "thesis.tex" in result.output
        assert (tmp_path / "thesis.tex").read_text() == "precious"
