"""How much arithmetic the study's training is, and in how many pieces.

What lives here: `operations`, from which the page says what other machines would make of it. What
does not: what the study took on this one, which each stage measures.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from simulator.data.transitions import Transitions
from simulator.study.plan import StudyPlan
from simulator.training.checkpoints import build_model
from simulator.training.evaluation import mean_loss
from simulator.training.loop import make_optimiser


class _Launches(TorchDispatchMode):
    """Counts the operators that compute something; views cost a GPU nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, operator: Any, kinds: Any, given: Any = (), named: Any = None
    ) -> Any:
        self.count += not operator.is_view
        return operator(*given, **(named or {}))


def count_operations(plan: StudyPlan) -> dict[str, int]:
    """How many floating-point operations and operator launches is the training of all arms?

    Counted on one training step, forward, backward and update, at the plan's sizes:
    `step_operations`, those of matrix products alone (a multiplication and an addition are two),
    and `step_launches`; `training_operations` and `training_launches` are of all steps of all runs.

    Examples
    --------
    >>> from simulator.study import study
    >>> counted = count_operations(study("short"))
    >>> counted["training_operations"] // counted["step_operations"]  # steps, seeds, arms
    15000
    """
    config = plan.training
    model = build_model(config)
    optimiser = make_optimiser(model, config)
    zeros = torch.zeros(config.batch_size, config.num_particles, 2 * config.dimension)
    launches = _Launches()
    with FlopCounterMode(display=False) as counter, launches:
        mean_loss(model, Transitions(zeros, zeros)).backward()
        optimiser.step()
    steps = config.num_steps * len(config.seeds) * len(plan.arms)
    return {
        "step_operations": int(counter.get_total_flops()),
        "step_launches": launches.count,
        "training_operations": int(counter.get_total_flops()) * steps,
        "training_launches": launches.count * steps,
    }
