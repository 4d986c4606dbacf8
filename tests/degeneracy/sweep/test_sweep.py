"""Sweeps over checkpoints: comparable, resumable, and the same wherever they run."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from safetensors.torch import save_file
from torch import Tensor, nn

import emergence_stats as es
from emergence_stats.degeneracy.sweep import sweep as sweep_module
from emergence_stats.degeneracy.sweep import workers
from emergence_stats.errors import InputError, StorageError

QUICK: dict[str, Any] = {"num_draws": 40, "num_chains": 2, "progress": False}


pytestmark = pytest.mark.usefixtures("one_thread")


def build() -> nn.Module:
    return nn.Linear(3, 2)


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def data() -> tuple[Tensor, Tensor]:
    inputs = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    return inputs, inputs[:, :2] + 0.5


def states(*steps: int) -> dict[int, dict[str, Tensor]]:
    """Checkpoints that approach the minimum as 1 / step."""
    weight, bias = torch.eye(2, 3), torch.full((2,), 0.5)
    return {step: {"weight": weight * (1 - 0.3 / step), "bias": bias} for step in steps}


def folder(path: Path, runs: tuple[int, ...], steps: tuple[int, ...]) -> Path:
    for run in runs:
        place = path / "checkpoints" / f"run-{run}"
        place.mkdir(parents=True)
        for step, tensors in states(*steps).items():
            save_file(
                {key: value + 0.01 * run for key, value in tensors.items()},
                place / f"step-{step:08d}.safetensors",
            )
    return path


# -------------------------------------------------------------------------- what it answers


def test_by_temperature_a_checkpoint_need_not_be_a_minimum() -> None:
    held, number = 30.0, 400
    checkpoints = states(1, 3)  # far from the minimum, and less far
    options: dict[str, Any] = {
        "sampler": "mala", "num_draws": 400, "localisation": held, "progress": False
    }  # fmt: skip
    beta = 1.0 / math.log(number)
    sweep = es.sweep_llc(
        checkpoints, build, loss, data(), inverse_temperatures=[beta, 0.5 * beta], **options
    )
    # Two outputs share the mean, so the Hessian is that of the inputs and a constant, twice.
    inputs = torch.cat([data()[0], torch.ones(number, 1)], dim=1).double()
    curvature = torch.linalg.eigvalsh(inputs.T @ inputs / number).numpy() * number * beta
    truth = (curvature / (curvature + held)).sum()
    assert (sweep["llc_standard_error"] < 0.12 * truth).all(), "not mixing"
    assert (abs(sweep["llc"] - truth) < 4.0 * sweep["llc_standard_error"]).all(), "biased"
    assert (sweep["inverse_temperature"] == beta).all()
    # At one temperature the same chains find lower loss than at the checkpoint.
    single = es.sweep_llc(checkpoints, build, loss, data(), **options)
    assert float(single["llc"][0, 0]) < 0.0
    assert single["verdict"][0, 0] == "not at a minimum"


def test_options_of_the_other_estimator_are_refused() -> None:
    with pytest.raises(
        InputError, match="target_standard_error: no argument of llc_by_temperature"
    ):
        es.sweep_llc(
            states(1),
            build,
            loss,
            data(),
            inverse_temperatures=[0.2, 0.1],
            target_standard_error=0.1,
        )


def test_all_checkpoints_share_one_localisation_and_match_single_estimates(tmp_path: Path) -> None:
    output = tmp_path / "sweep.zarr"
    parts = {"weights": "weight", "all": None}
    sweep = es.sweep_llc(
        folder(tmp_path, (0, 3), (1, 100)), build, loss, data(), parts=parts, output=output,
        **QUICK,
    )  # fmt: skip
    assert sweep["llc"].dims == ("run", "step", "part")
    assert sweep["run"].values.tolist() == [0, 3]
    assert sweep["part"].values.tolist() == ["weights", "all"]
    assert np.unique(sweep["localisation"]).tolist() == [sweep.attrs["localisation"]]
    assert np.unique(sweep["inverse_temperature"]).size == 1
    assert sweep["num_parameters"].sel(part="weights").values.tolist() == [[6.0] * 2] * 2
    # The largest of what estimate_llc chooses by itself at the last checkpoints.
    chosen = []
    for run in (0, 3):
        model = build()
        model.load_state_dict({key: value + 0.01 * run for key, value in states(100)[100].items()})
        for names in (["weight"], None):
            alone = es.estimate_llc(model, loss, data(), parts=names, **QUICK)
            chosen.append(alone.diagnostics["localisation"])
    assert sweep.attrs["localisation"] == pytest.approx(max(chosen), rel=1e-6)
    assert "last checkpoints" in sweep.attrs["localisation_from"]
    # One of them repeated by hand.
    task = sweep_module._task(
        sweep_module.find_checkpoints(tmp_path, [3])[1], "weights", {}, sweep.attrs["localisation"]
    )
    alone = es.estimate_llc(
        model, loss, data(), parts=["weight"], seed=task.seed,
        localisation=sweep.attrs["localisation"], **QUICK,
    )  # fmt: skip
    there = sweep.sel(run=3, step=100, part="weights")
    assert float(there["llc"]) == pytest.approx(alone.llc, rel=1e-6)
    assert float(there["llc_standard_error"]) == pytest.approx(alone.standard_error, rel=1e-6)
    assert str(there["verdict"].values) == alone.diagnostics["verdict"]
    # The store keeps the data contract.
    stored = es.open_trajectory(output)
    np.testing.assert_array_equal(stored["llc"].values, sweep["llc"].values)
    assert stored["step"].values.tolist() == [1, 100]


def test_random_numbers_belong_to_run_step_and_part() -> None:
    one = {"weight": torch.eye(2, 3), "bias": torch.full((2,), 0.5)}
    whole = es.sweep_llc(dict.fromkeys((1, 2, 3), one), build, loss, data(), localisation=9.0,
                         parts={"a": None, "b": None}, **QUICK)  # fmt: skip
    values = whole["llc"].values.ravel()
    assert np.unique(values).size == values.size, "two estimates share their random numbers"
    few = es.sweep_llc({2: one}, build, loss, data(), localisation=9.0, parts={"b": None}, **QUICK)
    assert float(few["llc"].squeeze()) == float(whole["llc"].sel(step=2, part="b"))
    again = es.sweep_llc({2: one}, build, loss, data(), localisation=9.0, seed=1, **QUICK)
    assert float(again["llc"].squeeze()) not in values
    before = torch.random.get_rng_state()
    es.sweep_llc({2: one}, build, loss, data(), localisation=9.0, **QUICK)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_compare_and_detect_onset_take_the_result() -> None:
    steps = tuple(range(1, 13))
    sweep = es.sweep_llc(states(*steps), build, loss, data(), localisation=50.0, **QUICK)
    comparison = es.compare(sweep["llc"])
    assert comparison.dataset["verdict"].dims == ("part",)
    onset = es.detect_onset(sweep["llc"])
    assert onset.dataset["part"].values.tolist() == ["all"]


# ------------------------------------------------------------------------------- resuming


class Killed(BaseException):
    """Stands for a kill: nothing in the package catches it."""


def test_killed_between_any_two_writes_the_same_call_gives_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**QUICK, "localisation": 20.0, "num_draws": 12}
    checkpoints = states(1, 2)
    whole = es.sweep_llc(checkpoints, build, loss, data(), **options)
    original = zarr.Array.__setitem__
    left = 0

    def write(self: zarr.Array, place: Any, value: Any) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        original(self, place, value)

    output = tmp_path / "sweep.zarr"
    kills = 0
    monkeypatch.setattr(zarr.Array, "__setitem__", write)
    for allowed in range(0, 200, 5):
        left = allowed
        try:
            resumed = es.sweep_llc(checkpoints, build, loss, data(), output=output, **options)
            break
        except Killed:
            kills += 1
    assert kills > 3
    xr.testing.assert_identical(resumed, whole)
    monkeypatch.undo()
    monkeypatch.setattr(workers, "estimate_llc", None)  # nothing is left to estimate
    again = es.sweep_llc(checkpoints, build, loss, data(), output=output, **options)
    xr.testing.assert_identical(again, whole)


SCRIPT = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import emergence_stats as es
from test_sweep import build, data, loss

if __name__ == "__main__":
    es.sweep_llc({folder!r}, build, loss, data(), output={output!r}, workers=2, progress=False,
                 num_draws=100, num_chains=2, localisation=20.0)
"""


@pytest.mark.slow
def test_processes_killed_outright_leave_none_behind_and_are_resumed(tmp_path: Path) -> None:
    folder(tmp_path, (0,), (1, 2, 3, 4, 5))  # two at once, so that most are left when one is done
    output = tmp_path / "sweep.zarr"
    script = tmp_path / "script.py"
    tests = Path(__file__).parent
    script.write_text(
        SCRIPT.format(
            root=str(tests.parents[2]), tests=str(tests), folder=str(tmp_path), output=str(output)
        )
    )
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not _some_done(output):
            assert process.poll() is None, "the sweep ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        while _in_session(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not _in_session(process.pid), "a worker outlived the process that started it"
    finally:
        if process.poll() is None:
            process.kill()
    options = {**QUICK, "num_draws": 100, "localisation": 20.0}
    before = xr.open_zarr(output, chunks=None, consolidated=False).load()
    assert (before["verdict"] == "").any(), "killed too late to test anything"
    resumed = es.sweep_llc(tmp_path, build, loss, data(), output=output, **options)
    whole = es.sweep_llc(tmp_path, build, loss, data(), **options)
    xr.testing.assert_identical(resumed, whole)


def _some_done(output: Path) -> bool:
    chunks = output / "verdict" / "c"
    return chunks.exists() and any(path.is_file() for path in chunks.rglob("*"))


def _in_session(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_checkpoints_and_parts_can_be_added(tmp_path: Path) -> None:
    output = tmp_path / "sweep.zarr"
    first = es.sweep_llc(states(1, 5), build, loss, data(), output=output, **QUICK)
    more = es.sweep_llc(
        states(1, 3, 5), build, loss, data(), output=output, parts={"all": None, "bias": "bias"},
        **QUICK,
    )  # fmt: skip
    assert more.attrs["localisation"] == first.attrs["localisation"]
    kept = more.sel(step=[1, 5], part=["all"])
    np.testing.assert_array_equal(kept["llc"].values, first["llc"].values)
    assert np.isfinite(more["llc"].values).all()
    fewer = es.sweep_llc(states(3), build, loss, data(), output=output, **QUICK)
    assert float(fewer["llc"].squeeze()) == float(more["llc"].sel(step=3, part="all"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_draws": 41}, "num_draws was 40 and is now 41"),
        ({"sampler": "mala"}, "sampler was not given and is now mala"),
        ({"parts": {"all": "weight"}}, r"part 'all' was null and is now \[\"weight\"\]"),
        ({"data": (data()[0] + 1.0, data()[1])}, "data was .* and is now"),
        ({"loss_fn": lambda m, b: 2 * loss(m, b)}, "loss at a fixed point was"),
        ({"build_model": lambda: nn.Sequential(nn.Linear(3, 2))}, "parameters of the model was"),
        ({"checkpoints": states(2)}, None),
        ({"checkpoints": {1: states(9)[9]}}, "step 1 is not the one that the stored estimate"),
        ({"checkpoints": {0: states(1)}}, "holds a sweep without runs"),
    ],
)
def test_changed_options_are_refused_by_name(
    tmp_path: Path, changed: dict[str, Any], message: str | None
) -> None:
    output = tmp_path / "sweep.zarr"
    call: dict[str, Any] = {
        "checkpoints": states(1), "build_model": build, "loss_fn": loss, "data": data(), **QUICK,
        "localisation": 10.0, "output": output,
    }  # fmt: skip
    es.sweep_llc(**call)
    if message is None:
        es.sweep_llc(**{**call, **changed})
        return
    with pytest.raises(InputError, match=message):
        es.sweep_llc(**{**call, **changed})


def test_a_failed_checkpoint_does_not_stop_the_others(tmp_path: Path) -> None:
    output = tmp_path / "sweep.zarr"
    checkpoints = states(1, 2, 3)
    good = checkpoints[2]
    checkpoints[2] = {**good, "bias": torch.full((2,), float("nan"))}
    call = {"build_model": build, "loss_fn": loss, "data": data(), "output": output, **QUICK}
    with pytest.warns(UserWarning, match=r"1 of 3 estimates failed.*step 2.*NaN"):
        sweep = es.sweep_llc(checkpoints, **call)
    assert sweep["verdict"].squeeze().values.tolist()[1] == "failed"
    assert np.isfinite(sweep["llc"]).squeeze().values.tolist() == [True, False, True]
    checkpoints[2] = good
    mended = es.sweep_llc(checkpoints, **call)
    assert np.isfinite(mended["llc"].values).all()
    with pytest.raises(InputError, match=r"step 3.*names differ .* missing 'bias'"):
        es.sweep_llc({3: {"weight": torch.eye(2, 3)}}, build, loss, data(), **QUICK)
    with pytest.raises(InputError, match="every estimate failed"):
        es.sweep_llc(
            {3: {name: math.nan * value for name, value in good.items()}}, build, loss, data(),
            localisation=1.0, **QUICK,
        )  # fmt: skip


# ------------------------------------------------------------------------------- elsewhere


def test_a_cluster_gives_the_same_result() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the cluster's own
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            there = es.sweep_llc(states(1, 2, 3), build, loss, data(), client=client, **QUICK)
    here = es.sweep_llc(states(1, 2, 3), build, loss, data(), **QUICK)
    xr.testing.assert_identical(there, here)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_drawz": 3}, "num_drawz: no argument of estimate_llc; did you mean 'num_draws'"),
        ({"parts": ["weight"]}, "give a mapping of names to patterns"),
        ({"parts": {1: "weight"}}, "1 is no name"),
        ({"workers": 0}, "workers must be a whole number"),
        ({"client": "cluster"}, "client: got str"),
        ({"seed": -1}, "seed must be"),
        ({"build_model": 3}, "build_model: got int"),
        ({"build_model": lambda: 3}, "build_model returned a int"),
        ({"data": ()}, "data is empty"),
        ({"parts": {"x": "wieght"}}, "no parameter matches 'wieght'; did you mean 'weight'"),
    ],
)
def test_bad_input_is_named(changed: dict[str, Any], message: str) -> None:
    call: dict[str, Any] = {
        "checkpoints": states(1), "build_model": build, "loss_fn": loss, "data": data(), **QUICK,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        es.sweep_llc(**{**call, **changed})


def test_a_store_of_another_kind_or_in_use_is_refused(tmp_path: Path) -> None:
    from filelock import FileLock

    foreign = tmp_path / "foreign.zarr"
    xr.Dataset({"x": ("step", [1.0])}).to_zarr(foreign, zarr_format=3, consolidated=False)
    with pytest.raises(StorageError, match="something other than a sweep"):
        es.sweep_llc(states(1), build, loss, data(), output=foreign, **QUICK)
    with (
        FileLock(tmp_path / ".used.zarr.lock"),
        pytest.raises(StorageError, match="another call is filling it"),
    ):
        es.sweep_llc(states(1), build, loss, data(), output=tmp_path / "used.zarr", **QUICK)
