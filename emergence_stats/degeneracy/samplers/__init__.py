"""Kernels that sample a potential, one algorithm a file, each `init`, `step` and `build`.

What lives here: SGLD, the same in an RMSprop metric and with Adam's drift, Hamiltonian dynamics
with friction and with a thermostat, underdamped dynamics by the BAOAB splitting, and MALA, on the
positions of all chains stacked as (chain, parameter). What does not: the potential they sample
(`posterior`, where the scaling is explained) and the choice of step size (`tuning`).

State is what the next step needs; info is diagnostics only. Each step evaluates the potential once.
`step_size` is the variance of the noise that one step of plain SGLD adds to a parameter, and half
of it multiplies the gradient in every one of them.

Every chain has a random stream of its own, drawn in the same order however chains are evaluated,
so a run does not depend on whether chains were stacked or taken in sequence.
"""

from emergence_stats.degeneracy.samplers.adam_sgld import (
    AdamSGLDState,
    adam_sgld_build,
    adam_sgld_init,
    adam_sgld_step,
)
from emergence_stats.degeneracy.samplers.baoab import (
    BAOABState,
    baoab_build,
    baoab_init,
    baoab_step,
)
from emergence_stats.degeneracy.samplers.base import (
    Kernel,
    Potential,
    Randomness,
    StepInfo,
)
from emergence_stats.degeneracy.samplers.mala import MALAState, mala_build, mala_init, mala_step
from emergence_stats.degeneracy.samplers.psgld import (
    PSGLDState,
    psgld_build,
    psgld_init,
    psgld_preconditioner,
    psgld_step,
)
from emergence_stats.degeneracy.samplers.sghmc import (
    SGHMCState,
    sghmc_build,
    sghmc_init,
    sghmc_step,
)
from emergence_stats.degeneracy.samplers.sgld import SGLDState, sgld_build, sgld_init, sgld_step
from emergence_stats.degeneracy.samplers.sgnht import (
    SGNHTState,
    sgnht_build,
    sgnht_init,
    sgnht_step,
)
from emergence_stats.degeneracy.samplers.streams import Streams

SAMPLERS = ("sgld", "psgld", "adam_sgld", "sghmc", "sgnht", "baoab", "mala")

__all__ = [
    "SAMPLERS",
    "AdamSGLDState",
    "BAOABState",
    "Kernel",
    "MALAState",
    "PSGLDState",
    "Potential",
    "Randomness",
    "SGHMCState",
    "SGLDState",
    "SGNHTState",
    "StepInfo",
    "Streams",
    "adam_sgld_build",
    "adam_sgld_init",
    "adam_sgld_step",
    "baoab_build",
    "baoab_init",
    "baoab_step",
    "mala_build",
    "mala_init",
    "mala_step",
    "psgld_build",
    "psgld_init",
    "psgld_preconditioner",
    "psgld_step",
    "sghmc_build",
    "sghmc_init",
    "sghmc_step",
    "sgld_build",
    "sgld_init",
    "sgld_step",
    "sgnht_build",
    "sgnht_init",
    "sgnht_step",
]
