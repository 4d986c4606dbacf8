"""Checkpoints: found by name, read without running code, and put into a model knowingly."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from emergence_stats.degeneracy.sweep.checkpoints import find_checkpoints, load_into
from emergence_stats.degeneracy.sweep.state_files import content_digest, read_state
from emergence_stats.errors import InputError, StorageError


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def state(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in network().state_dict().items()
    }


def assert_holds(source: object, wanted: dict[str, Tensor]) -> None:
    model = network()
    load_into(model, read_state(source))  # type: ignore[arg-type]
    for key, value in model.state_dict().items():
        assert torch.equal(value, wanted[key]), key


def test_every_form_holds_the_same_tensors(tmp_path: Path) -> None:
    wanted = state()
    save_file(wanted, tmp_path / "step-1.safetensors")
    torch.save(wanted, tmp_path / "step-2.pt")
    torch.save({"epoch": 3, "model_state_dict": wanted, "optimizer": {}}, tmp_path / "step-3.pth")
    whole, sharded, pickled = (tmp_path / f"checkpoint-{n}" for n in (4, 5, 6))
    for folder in (whole, sharded, pickled):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    save_file(wanted, whole / "model.safetensors")
    torch.save(wanted, pickled / "pytorch_model.bin")
    names = list(wanted)
    shards = {"model-1.safetensors": names[:3], "model-2.safetensors": names[3:]}
    for shard, keys in shards.items():
        save_file({key: wanted[key] for key in keys}, sharded / shard)
    index = {key: shard for shard, keys in shards.items() for key in keys}
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))

    found = find_checkpoints(tmp_path)
    assert [one.step for one in found] == [1, 2, 3, 4, 5, 6]
    for one in found:
        assert_holds(one.source, wanted)
    (sharded / "model-2.safetensors").unlink()
    with pytest.raises(StorageError, match=r"model-2.safetensors: missing, though the index"):
        read_state(sharded)


def test_the_data_contract_is_found_by_run_and_step(tmp_path: Path) -> None:
    for run in (0, 10, 2):
        for step in (0, 100, 20):
            path = tmp_path / "checkpoints" / f"run-{run}" / f"step-{step:08d}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(state(), path)
        (path.parent / "latest.pt").write_bytes(b"optimiser state, not a checkpoint")
    pairs = [(run, step) for run in (0, 2, 10) for step in (0, 20, 100)]
    for start in (tmp_path, tmp_path / "checkpoints"):
        assert [(one.run, one.step) for one in find_checkpoints(start)] == pairs
    one_run = find_checkpoints(tmp_path / "checkpoints" / "run-2")
    assert [(one.run, one.step) for one in one_run] == [(None, 0), (None, 20), (None, 100)]
    assert [one.run for one in find_checkpoints(tmp_path, seeds=[10])] == [10, 10, 10]
    nested = {0: {5: state(), 1: state()}, 1: {1: tmp_path / "x.pt"}}
    assert [(one.run, one.step) for one in find_checkpoints(nested)] == [(0, 1), (0, 5), (1, 1)]


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must never be printed",))


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_that_wants_to_run_code_is_refused(
    tmp_path: Path, writer: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "step-1.pt"
    if writer == "torch":
        torch.save({"weight": Malicious()}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": Malicious()}, protocol=2))
    with pytest.raises(InputError, match=r"step-1.pt: refused, because reading this pickle could"):
        read_state(path)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_prefixes_of_wrappers_are_stripped_or_added(prefix: str) -> None:
    wanted = state()
    model = network()
    assert load_into(model, {prefix + key: value for key, value in wanted.items()}) == prefix
    assert torch.equal(model[0].weight, wanted["0.weight"])
    wrapper = nn.ModuleDict({"model": network()})
    assert load_into(wrapper, wanted) == "+model."
    assert torch.equal(wrapper["model"][0].weight, wanted["0.weight"])


def test_a_model_whose_own_names_have_the_prefix_keeps_them() -> None:
    wrapper = nn.ModuleDict({"module": network()})
    assert load_into(wrapper, {f"module.{key}": value for key, value in state().items()}) == ""


def test_a_tied_weight_may_be_stored_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(3, 3, bias=False)
            self.read = nn.Linear(3, 3, bias=False)
            self.read.weight = self.embed.weight

    model = Tied()
    load_into(model, {"embed.weight": torch.ones(3, 3)})
    assert torch.equal(model.read.weight, torch.ones(3, 3))
    assert model.read.weight is model.embed.weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.weight"), r"run 1: names differ .* missing '0.weight'; build"),
        (
            lambda s: s.update({"0.wieght": s.pop("0.weight")}),
            r"missing '0.weight'; unexpected '0.wieght'; '0.wieght' was probably meant",
        ),
        (
            lambda s: [s.update({f"net.{key}": s.pop(key)}) for key in list(s)],
            r"and 6 more; .* under the prefix 'net.': strip it",
        ),
        (
            lambda s: s.update({"0.weight": torch.zeros(4, 5)}),
            r"1 shapes differ: '0.weight' is \(4, 5\) and in the model \(4, 3\)",
        ),
    ],
)
def test_names_that_do_not_match_are_listed(change, message: str) -> None:
    changed = state()
    change(changed)
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError, match=message):
        load_into(model, changed, name="run 1")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    def refused(message: str, given: object, kind: type[Exception] = InputError, **options) -> None:
        with pytest.raises(kind, match=message):
            find_checkpoints(given, **options)

    refused("none given", {})
    refused("give a mapping {step: path}", ["weights.pt"])
    refused("state dicts need their steps", [state()])
    refused("'last' is no step", {"last": "a.pt"})
    refused("step 3 is a int", {3: 3})
    refused("got int", 3)
    refused("step 7 is given twice", ["step-7.pt", "other/step-7.pt"])
    refused(r"seeds: \[4\] of no run; the runs are \[0\]", {0: {1: "a.pt"}}, seeds=[4])
    refused("no such folder", tmp_path / "absent", StorageError)
    refused("holds no checkpoint", tmp_path, StorageError)
    with pytest.raises(StorageError, match="no such checkpoint"):
        read_state(tmp_path / "step-1.pt")
    with pytest.raises(StorageError, match="holds no model"):
        read_state(tmp_path)
    (tmp_path / "step-1.safetensors").write_bytes(b"torn")
    (tmp_path / "step-2.pt").write_bytes(b"torn")
    torch.save([torch.zeros(2)], tmp_path / "step-3.pt")
    for step, kind, message in [
        (1, StorageError, "damaged or not safetensors"),
        (2, StorageError, "damaged"),
        (3, InputError, "holds a list where named tensors"),
    ]:
        source = find_checkpoints(tmp_path)[step - 1].source
        with pytest.raises(kind, match=message):
            read_state(source)


def test_a_digest_tells_a_replaced_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "step-1.safetensors"
    save_file(state(0), path)
    first = content_digest(path)
    assert content_digest(path) == first
    save_file(state(1), path)
    assert content_digest(path) != first
    assert content_digest(state(0)) == content_digest(state(0)) != content_digest(state(1))
