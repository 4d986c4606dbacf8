"""Settings that cannot be used are named."""

from __future__ import annotations

import math

import pytest
from known_landscapes import linear_problem, squared_error

from emergence_stats import estimate_llc
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "sgdl"}, "did you mean 'sgld'"),
        ({"num_chains": 0}, "num_chains must be a whole number of at least 1, got 0"),
        ({"num_draws": 2.5}, "got 2.5"),
        ({"num_burnin": -1}, "num_burnin"),
        ({"batch_size": 0}, "batch_size"),
        ({"step_size": 0.0}, "step_size must be a finite number above zero"),
        ({"step_size": math.nan}, "got nan"),
        ({"localisation": -1.0}, "localisation must be a finite number zero or more"),
        ({"inverse_temperature": math.inf}, "inverse_temperature"),
        ({"seed": -1}, "seed"),
        ({"parts": ["wieght"]}, "did you mean 'weight'"),
        ({"parts": []}, "parts is empty"),
        ({"parts": "weight"}, "must be a list"),
    ],
)
def test_bad_settings_are_named(options: dict[str, object], message: str) -> None:
    model, data, _ = linear_problem(num_samples=50)
    with pytest.raises(InputError, match=message):
        estimate_llc(model, squared_error, data, progress=False, **options)  # type: ignore[arg-type]
