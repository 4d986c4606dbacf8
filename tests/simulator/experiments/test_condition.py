"""A condition refuses by name what cannot be applied."""

from __future__ import annotations

import re

import pytest

import emergence_stats as es
from simulator import Condition


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Condition(""), "give the condition a name"),
        (lambda: Condition("a", data_share=0.0), "data_share: 0.0"),
        (lambda: Condition("a", held="best"), "held: 'best'; give pairs of layer and head"),
        (lambda: Condition("a", held_from=-1), "held_from: -1; give a whole number of at least 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=re.escape(message)):
        call()
