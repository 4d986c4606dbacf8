"""Parts of a model, by name and by mask."""

from __future__ import annotations

import math

import pytest
import torch
from known_landscapes import NUMBER, negative_log_likelihood, regression
from torch import Tensor, nn

from emergence_stats import estimate_llc
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.parts import attention_head
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


class Attends(nn.Module):
    """One fused attention layer and a read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)
        self.read = nn.Linear(6, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read(self.attention(inputs, inputs, inputs, need_weights=False)[0])


def test_masks_move_only_what_they_choose_and_gradients_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    model = Attends()
    inputs = torch.randn(40, 5, 6)
    data = (inputs, torch.randn(40, 5, 1))
    masks = attention_head(model, "attention", 1)
    sizes = {name: int(mask.sum()) for name, mask in masks.items()}
    expected = {"in_proj_weight": 3 * 2 * 6, "in_proj_bias": 3 * 2, "out_proj.weight": 6 * 2}
    assert sizes == {f"attention.{name}": size for name, size in expected.items()}
    # Every entry of the fused layer but the output bias belongs to exactly one head.
    heads = [attention_head(model, "attention", head) for head in range(3)]
    for name in masks:
        assert (sum(head[name].int() for head in heads) == 1).all()
    whole = LossLandscape(model, negative_log_likelihood, data, parts=list(masks))
    flat = torch.cat([masks[name].flatten() for name in whole.names])
    for stacked in (True, False):
        landscape = LossLandscape(
            model, negative_log_likelihood, data, parts=masks, chains_stacked=stacked
        )
        assert landscape.num_parameters == sum(sizes.values())
        positions = landscape.centre + 0.1 * torch.randn(3, landscape.num_parameters)
        full = whole.centre.expand(3, -1).clone()
        full[:, flat] = positions
        index = torch.arange(30).reshape(3, 10)
        losses, gradients = landscape.batch_gradients(positions, index)
        reference, of_all = whole.batch_gradients(full, index)
        torch.testing.assert_close(losses, reference)
        torch.testing.assert_close(gradients, of_all[:, flat])
    with pytest.raises(InputError, match="attention\\.in_proj_weight' has shape \\(6, 18\\)"):
        LossLandscape(
            model, negative_log_likelihood, data,
            parts={"attention.in_proj_weight": torch.ones(6, 18, dtype=torch.bool)},
        )  # fmt: skip
    with pytest.raises(InputError, match="must be a bool tensor, got a torch"):
        LossLandscape(model, negative_log_likelihood, data, parts={"read.weight": torch.ones(1, 6)})
    with pytest.raises(InputError, match="chooses no entry"):
        LossLandscape(
            model, negative_log_likelihood, data,
            parts={"read.weight": torch.zeros(1, 6, dtype=torch.bool)},
        )  # fmt: skip
    with pytest.raises(InputError, match="head must be a whole number from 0 to 2"):
        attention_head(model, "attention", 3)
    with pytest.raises(InputError, match="'read', a Linear that holds nothing"):
        attention_head(model, "read", 0)
    with pytest.raises(InputError, match="did you mean 'attention'"):
        attention_head(model, "atention", 0)


def test_a_masked_part_has_the_coefficient_of_its_own_hessian() -> None:
    model, data, _ = regression(spread=2.0)
    mask = torch.tensor([[True, False, True, True, False, False]])
    result = estimate_llc(
        model, negative_log_likelihood, data, parts={"weight": mask}, sampler="mala",
        num_draws=1200, num_burnin=100, localisation=20.0, progress=False,
    )  # fmt: skip
    kept = data[0][:, mask[0]].double()
    held = torch.linalg.eigvalsh(kept.T @ kept).numpy() / math.log(NUMBER)
    truth = 0.5 * (held / (held + 20.0)).sum()
    assert result.standard_error < 0.08 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error
