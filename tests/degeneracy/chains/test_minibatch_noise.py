"""Functions of the Hessian by Lanczos' method."""

from __future__ import annotations

import pytest
import torch
from known_landscapes import DATA, Crossing, linear, summed_squared_error, weighted
from torch import Tensor

from emergence_stats.degeneracy.chains.minibatch_noise import quadratic_form
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior

pytestmark = pytest.mark.usefixtures("one_thread")


def test_lanczos_gives_functions_of_the_hessian() -> None:
    model, data = linear(6, 1, 500)
    model, data = model.double(), tuple(leaf.double() for leaf in data)
    posterior = LocalisedPosterior(LossLandscape(model, summed_squared_error, data), 0.2, 30.0)
    positions = posterior.landscape.centre + 0.1 * torch.arange(12).reshape(2, 6).double()
    vectors = torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = torch.arange(500)
    hessian = 100.0 * 2.0 / 500.0 * data[0].T @ data[0] + 30.0 * torch.eye(6).double()
    solved = torch.linalg.solve(hessian, vectors.T).T
    expected = (vectors * solved).sum(1) / vectors.square().sum(1)

    def form(**options: float) -> Tensor:
        asked = (posterior, positions, vectors.clone(), lambda h: 1.0 / h, rows, 1e9)
        return quadratic_form(*asked, **options)

    torch.testing.assert_close(form(settled=0.0), expected, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(form(), expected, rtol=1e-2, atol=0.0)


def test_lanczos_sees_the_curvature_where_the_chains_are() -> None:
    # That of (a b)^2 changes by as much as itself within the distance from w* = 0.
    posterior = LocalisedPosterior(LossLandscape(Crossing(1, 1), weighted, DATA), 0.2, 0.1)
    positions = torch.tensor([[0.5, 0.2], [-0.3, 0.6]]).double()
    vectors = torch.tensor([[1.0, 0.3], [0.2, 1.0]]).double()
    rows = torch.arange(1000)
    found = quadratic_form(posterior, positions, vectors, lambda h: 1.0 / h, rows, 1e9)
    for place, vector, form in zip(positions, vectors, found, strict=True):
        a, b = place.tolist()
        hessian = torch.tensor([[2 * b * b, 4 * a * b], [4 * a * b, 2 * a * a]]).double()
        values, columns = torch.linalg.eigh(200.0 * hessian + 0.1 * torch.eye(2).double())
        along = (columns.T @ vector).square() / vector.square().sum()
        expected = (along / values.clamp(min=0.1)).sum()  # as below zero h + gamma counts as gamma
        assert float(form) == pytest.approx(float(expected), rel=5e-3)
