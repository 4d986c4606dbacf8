"""How well does a family forecast a curve from its beginning? Leave-future-out cross-validation.

What lives here: refitting a curve's first points for `arviz.lfo_cv`, and the likelihood of what
came after. What does not: the sampler (`one_curve`), the table that users see
(`fitting.compare_forecasts`).
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats import SamplingWrapper

from emergence_stats.curves.families import Family
from emergence_stats.nuts.data import CurveData
from emergence_stats.nuts.draws import build_tree, log_likelihoods, parameters
from emergence_stats.nuts.one_curve import SamplerOptions, sample_curve
from emergence_stats.nuts.sampling import Chains

Array = np.ndarray

# Each fit is (data, with stairs, of the points seen; chains).
Fitted = tuple[CurveData, Chains]


class FirstPoints(SamplingWrapper):
    """Fits a family to the first points of a curve and tells how probable the later ones were.

    Attributes
    ----------
    data : CurveData
        The whole curve. Priors know its steps and its range also where only some points are seen,
        as they do in `compare`; what a and b are given is the points seen alone.
    """

    def __init__(
        self,
        family: Family,
        noise: str,
        data: CurveData,
        logarithmic: bool,
        options: SamplerOptions,
        generator: np.random.Generator,
    ) -> None:
        super().__init__(model=None)
        self.family, self.noise, self.data = family, noise, data
        self.logarithmic, self.options, self.generator = logarithmic, options, generator

    def whole(self) -> xr.DataTree:
        """The fit of all points."""
        data, chains = self.sample(np.arange(self.data.step.size))
        return build_tree(
            self.family, self.noise, data, self.logarithmic, chains, self.generator, ""
        )

    def sel_observations(self, idx: Array) -> tuple[Array, Array]:
        """Indices kept and indices left out."""
        return np.setdiff1d(np.arange(self.data.step.size), idx), np.asarray(idx)

    def sample(self, modified_observed_data: Array) -> Fitted:
        """Chains given the first points."""
        seen = self.data.until(len(modified_observed_data))
        return sample_curve(
            self.family, self.noise, seen, self.logarithmic, self.options, self.generator
        )

    def get_inference_data(self, fitted_model: Fitted) -> xr.DataTree:
        """The chains with the names that ArviZ knows, and the likelihood of every point."""
        seen, chains = fitted_model
        # The onset's coordinate stands on the stairs chosen for the points seen.
        stairs = {
            f.name: getattr(seen, f.name)
            for f in fields(CurveData)
            if f.name.startswith("stair") or f.name == "sharpness"
        }
        every = replace(self.data, **stairs)
        named, likelihood = [], []
        for chain in chains.coordinates:
            found, drawn = parameters(
                self.family, self.noise, every, self.logarithmic, chain, self.generator, seen
            )
            named.append(found)
            likelihood.append(log_likelihoods(self.data, drawn))
        draws = ("chain", "draw")
        posterior = {name: (draws, np.stack([n[name] for n in named])) for name in named[0]}
        return xr.DataTree.from_dict(
            {
                "posterior": xr.Dataset(posterior),
                "log_likelihood": xr.Dataset(
                    {"score": ((*draws, "step"), np.stack(likelihood))},
                    coords={"step": np.asarray(self.data.step)},
                ),
            }
        )

    def log_likelihood__i(self, excluded_obs: Array, idata__i: Any) -> xr.DataArray:
        """Log likelihood of each point left out, given those before it."""
        return idata__i["log_likelihood"]["score"].isel(step=excluded_obs)


def leave_future_out(wrapper: FirstPoints, min_points: int, horizon: int, method: str) -> Any:
    """`arviz.lfo_cv` of one family; an `ELPDData` with its values by point."""
    import arviz as az

    return az.lfo_cv(
        wrapper.whole(),
        wrapper,
        min_observations=min_points,
        forecast_horizon=horizon,
        time_dim="step",
        pointwise=True,
        method=method,
    )
