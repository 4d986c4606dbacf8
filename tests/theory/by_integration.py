"""Gradient flow by an eighth-order method, for what theory has in closed form."""

from __future__ import annotations

from scipy.integrate import solve_ivp


def integrate(velocity, start, t):
    """Positions, shape (time, coordinate), at tolerance 1e-11."""
    found = solve_ivp(
        lambda _, w: velocity(w), (0.0, t[-1]), start, "DOP853", t, rtol=1e-11, atol=1e-14
    )
    assert found.success
    return found.y.T
