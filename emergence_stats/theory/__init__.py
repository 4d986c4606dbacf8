"""What should be seen if one coordinate relaxes in a degenerate potential, in closed form.

What lives here: the effective potential and what follows from it (`potential`, `gradient_time`,
`descent`, `noise`, `slowing`, `products`, `saddles`), from the order to the learning coefficient
and the test of the two (`orders`, `agreement`), and learning coefficients known exactly (`exact`).
What does not: anything estimated from data or from a network.
"""

from emergence_stats.theory import descent as descent
from emergence_stats.theory import exact as exact
from emergence_stats.theory import gradient_time as gradient_time
from emergence_stats.theory import noise as noise
from emergence_stats.theory import products as products
from emergence_stats.theory import saddles as saddles
from emergence_stats.theory import slowing as slowing
from emergence_stats.theory.agreement import Agreement as Agreement
from emergence_stats.theory.agreement import agreement as agreement
from emergence_stats.theory.gradient_time import gradient_flow_time as gradient_flow_time
from emergence_stats.theory.orders import exponent_from_order as exponent_from_order
from emergence_stats.theory.orders import (
    implied_learning_coefficient as implied_learning_coefficient,
)
from emergence_stats.theory.orders import order_draws as order_draws
from emergence_stats.theory.orders import order_from_exponent as order_from_exponent
from emergence_stats.theory.potential import EffectivePotential as EffectivePotential
from emergence_stats.theory.slowing import CriticalPotential as CriticalPotential
