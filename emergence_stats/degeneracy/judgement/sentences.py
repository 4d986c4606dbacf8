"""What was found of an estimate, in words.

What lives here: a sentence for each check, with the numbers of its finding. What does not: the
checks (`verdicts`); nothing is decided by what stands here.
"""

from __future__ import annotations

from emergence_stats.degeneracy.judgement.verdicts import Check, Finding

_HALF_THE_LOCALISATION = (
    "at half of it the estimate would be about {value:.2g} (standard error {beside:.1g}) higher; "
    "this is the coefficient at this localisation, to be compared with others at the same"
)
_OFF_QUADRATIC = (
    ", where the correction for the step, {value:.3g} beside {beside:.3g}, does not hold; lower "
    "step_size"
)
SENTENCES = {
    Check.FINITE_LOSS: "the loss stopped being finite",
    Check.LARGEST_STEP: "the largest step size that worked is {value:.3g}",
    Check.SIGN: "the estimate is negative ({value:.3g}): the chains found lower loss than w*; "
    "llc_by_temperature needs no minimum",
    Check.STEP_CORRECTION: (
        "the finite step and minibatch noise account for {value:.3g} beside an estimate of "
        "{beside:.3g}; lower step_size or raise batch_size"
    ),
    Check.STEP_CORRECTION_AND_POWER: "the loss grows like the power {growth:.2g}" + _OFF_QUADRATIC,
    Check.STEP_CORRECTION_AND_DEPARTURE: (
        "the loss departs from a quadratic by {growth:.0%}" + _OFF_QUADRATIC
    ),
    Check.HALF_THE_STEP: "halving it moves the estimate by {value:.3g}",
    Check.FALLING_LOSS: "the loss keeps falling ({value:.3g} between the halves of the draws)",
    Check.STATIONARY_STRETCH: "no stationary stretch was found",
    Check.DRIFT: "the halves of the draws differ by {value:.3g}",
    Check.RHAT: "R-hat is {value:.3f}, above {bound:g}",
    Check.VIRIAL: (
        "the mean of (w - w*) . grad U is {value:.3g} and not the number of parameters, "
        "{beside:.0f}: steep parts are visited too rarely; lower step_size"
    ),
    Check.NOISE_SHARE: (
        "{value:.0%} of the losses' variance is the choice of samples; raise batch_size or "
        "num_draws"
    ),
    Check.EFFECTIVE_DRAWS: "{value:.0f} effective draws; raise num_draws",
    Check.TARGET: "standard error {value:.3g} after {beside:.0f} draws; asked for less",
    Check.DEFAULT_TARGET: (
        "the standard error is {value:.1%} of the estimate after {beside:.0f} draws, and not "
        "{bound:.1%}; num_draws or target_standard_error asks for more"
    ),
    Check.STRAIGHT_LINE: "the slope changes by {value:.3g} from the coldest pair to the hottest",
    Check.HALF_THE_LOCALISATION: _HALF_THE_LOCALISATION,
    Check.HALF_THE_LOCALISATION_OF_SLOPE: _HALF_THE_LOCALISATION,
    Check.SLOW_GROWTH: (
        "the loss grows like the power {growth:.3g} of the distance, more slowly than a quadratic, "
        "as with a more singular point nearby"
    ),
}


def sentence(found: Finding) -> str:
    """What was found, after the verdict that follows from it."""
    text = SENTENCES[found.check].format(**found._asdict())
    return text if found.verdict is None else f"{found.verdict}: {text}"
