"""Random words of many generators side by side, at a quarter of the cost of Philox.

What lives here: the generator xoshiro128++, as many of them as fill registers. What does not: where
their states come from and how long they go on (`philox`).

References
----------
Blackman and Vigna (2021), Scrambled linear pseudorandom number generators, ACM Transactions on
Mathematical Software 47(4).
"""

from __future__ import annotations

import numpy as np

from emergence_stats.degeneracy.compiled import kernel

GENERATORS = 256  # side by side

_U32 = np.uint32


@kernel
def xoshiro(words: np.ndarray, state: np.ndarray) -> None:
    """The next four words (4, generator) of each generator, whose `state` (4, generator) moves on.

    A state of nothing but zeros stays one; of words of Philox, one in 2**128 is.
    """
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    s0, s1, s2, s3 = state[0], state[1], state[2], state[3]
    for i in range(GENERATORS):
        # All four in one go: the state is read and written once.
        a, b, c, d = s0[i], s1[i], s2[i], s3[i]
        w0[i], a, b, c, d = _next(a, b, c, d)
        w1[i], a, b, c, d = _next(a, b, c, d)
        w2[i], a, b, c, d = _next(a, b, c, d)
        w3[i], a, b, c, d = _next(a, b, c, d)
        s0[i], s1[i], s2[i], s3[i] = a, b, c, d


@kernel
def _next(
    a: np.uint32, b: np.uint32, c: np.uint32, d: np.uint32
) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32, np.uint32]:
    """A word, and the state after it; what is not brought back to 32 bits goes on in 64."""
    total = _U32(a + d)
    word = _U32(_U32(_U32(total << _U32(7)) | _U32(total >> _U32(25))) + a)
    shifted = _U32(b << _U32(9))
    c, d = _U32(c ^ a), _U32(d ^ b)
    b, a = _U32(b ^ c), _U32(a ^ d)
    c = _U32(c ^ shifted)
    d = _U32(_U32(d << _U32(11)) | _U32(d >> _U32(21)))
    return word, a, b, c, d
