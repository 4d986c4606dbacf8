"""The loop: deterministic, resumable after a kill at any moment, honest when it diverges."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small_runs import SMALL, assert_same_run

import emergence_stats as es
from simulator.data.transitions import Transitions
from simulator.training.folder import prepare
from simulator.training.loop import draw_batch, train_seed
from simulator.training.runs import train

pytestmark = pytest.mark.xdist_group("training")


def test_interrupted_at_any_step_it_continues_identically(finished, tmp_path):
    prepare(SMALL, tmp_path)
    calls = 0

    def stop():
        nonlocal calls
        calls += 1
        return calls % 17 == 0

    codes = [train_seed(tmp_path, 0, stop=stop)]
    while codes[-1] == 130:
        codes.append(train_seed(tmp_path, 0, stop=stop))
    assert codes == [130, 130, 130, 0]
    assert_same_run(finished, tmp_path)


@pytest.mark.parametrize("moment", ["write_step", "save_checkpoint", "save_latest"])
def test_killed_around_any_write_it_continues_identically(finished, tmp_path, monkeypatch, moment):
    """The process dies just before and just after each of the three writes of an evaluation."""
    import simulator.training.loop as module

    original = getattr(module, moment)
    for after in (False, True):
        folder = tmp_path / str(after)
        folder.mkdir()
        prepare(SMALL, folder)
        calls = 0

        def killed(*arguments, after=after, **keywords):
            nonlocal calls
            calls += 1
            if calls != 5:
                return original(*arguments, **keywords)
            if after:
                original(*arguments, **keywords)
            raise KeyboardInterrupt

        monkeypatch.setattr(module, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            train_seed(folder, 0)
        monkeypatch.undo()
        assert train_seed(folder, 0) == 0
        assert_same_run(finished, folder)


def test_a_diverging_seed_stops_and_keeps_what_was_saved(tmp_path):
    config = SMALL.replace(optimiser="sgd", learning_rate=1e9)
    prepare(config, tmp_path)
    events = []
    assert train_seed(tmp_path, 0, report=events.append) == 3
    reason = events[-1]["stopped"]
    assert "lower learning_rate" in reason
    dataset = es.open_trajectory(tmp_path)
    assert np.isfinite(dataset["test_loss"].sel(step=0)).all()
    # Asking again reports it rather than training the same divergence once more.
    again = train(config, tmp_path, progress=False)
    assert json.loads(again.attrs["stopped"]) == {"0": reason}


def test_batches_are_epochs_of_the_whole_set():
    numbers = torch.arange(256)
    samples = Transitions(numbers, numbers)
    per_epoch = 256 // SMALL.batch_size

    def drawn(first, seed=0):
        steps = range(first, first + per_epoch)
        return torch.cat([draw_batch(SMALL, seed, step, samples).states for step in steps])

    assert sorted(drawn(0).tolist()) == list(range(256))
    assert sorted(drawn(per_epoch).tolist()) == list(range(256))
    assert not torch.equal(drawn(0), drawn(per_epoch))
    assert not torch.equal(drawn(0), drawn(0, seed=1))
