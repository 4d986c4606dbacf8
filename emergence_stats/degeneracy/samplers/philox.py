"""Random numbers that are a function of a key and a counter, several at a time.

What lives here: the generator Philox4x32-10, and normal, uniform and whole numbers made of its
words, in blocks that fit the nearest cache. What does not: which key and counter a chain has
(`streams`).

A chain's numbers depend on its key, on how many times it has drawn, and on the place in the draw;
on nothing that other chains do. Kernels of samplers make the noise of a block just before they use
it, so that it never travels through memory.

Of a draw of normal numbers in single precision only the first block is Philox's. Others come in
stretches, at the start of which it gives 256 generators (`xoshiro`) their states: words were half
of the cost of noise, and are a quarter of that so. Two of these generators overlap if their states,
of 128 random bits each, come within 128 steps of one another: among 2**40, with a chance of 2**-40.

References
----------
Salmon, Moraes, Dror and Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, SC11.
Box and Muller (1958), A note on the generation of random normal deviates.
"""

from __future__ import annotations

import math

import numpy as np

from emergence_stats.degeneracy.compiled import kernel
from emergence_stats.degeneracy.samplers.xoshiro import GENERATORS, xoshiro

WORDS = GENERATORS  # counters whose words are made together, four words each
BLOCK = 4 * WORDS  # numbers made together
STRETCH = 32  # blocks from one set of states

_U32, _U64, _I32, _F32 = np.uint32, np.uint64, np.int32, np.float32
_EIGHTH = _F32(math.pi / 4 * 2.0**-31)  # of a turn, over the largest int32


@kernel
def philox(words: np.ndarray, first: int, draw: int, key: np.ndarray) -> None:
    """Words (4, WORDS) of the counters from `first` on, in the draw of this number."""
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    low, high = _U32(draw), _U32(_U64(draw) >> _U64(32))
    key0, key1 = _U32(key[0]), _U32(key[1])
    for i in range(WORDS):
        x0, x1, x2, x3 = _U32(first + i), low, high, _U32(_U64(first + i) >> _U64(32))
        k0, k1 = key0, key1
        for _ in range(10):
            p0, p1 = _U64(x0) * _U64(0xD2511F53), _U64(x2) * _U64(0xCD9E8D57)
            x0 = _U32(_U32(p1 >> _U64(32)) ^ x1 ^ k0)
            x2 = _U32(_U32(p0 >> _U64(32)) ^ x3 ^ k1)
            x1, x3 = _U32(p1), _U32(p0)
            k0, k1 = _U32(k0 + _U32(0x9E3779B9)), _U32(k1 + _U32(0xBB67AE85))
        w0[i], w1[i], w2[i], w3[i] = x0, x1, x2, x3


@kernel
def box_muller(radii: np.ndarray, angles: np.ndarray, ahead: np.ndarray, aside: np.ndarray) -> None:
    """Two normal numbers from two words, single precision.

    The logarithm is the polynomial of Cephes' logf, sine and cosine those of its sinf and cosf, all
    good to the last bit or two and free of branches, so that the loop runs on whole registers. The
    radius comes from a word of 31 bits and reaches 6.6 standard deviations.
    """
    for i in range(WORDS):
        u = (_F32(_I32(radii[i] >> _U32(1))) + _F32(0.5)) * _F32(2.0**-31)
        bits = np.float32(u).view(np.int32)
        # Of u over the root of one half. What is not brought back to 32 bits at once goes on in 64.
        exponent = _I32(_I32(bits - _I32(0x3F3504F3)) >> _I32(23))
        mantissa = _I32(bits - _I32(exponent << _I32(23)))
        f = np.int32(mantissa).view(np.float32) - _F32(1.0)
        p = _F32(7.0376836292e-2)
        p = p * f + _F32(-1.1514610310e-1)
        p = p * f + _F32(1.1676998740e-1)
        p = p * f + _F32(-1.2420140846e-1)
        p = p * f + _F32(1.4249322787e-1)
        p = p * f + _F32(-1.6668057665e-1)
        p = p * f + _F32(2.0000714765e-1)
        p = p * f + _F32(-2.4999993993e-1)
        p = p * f + _F32(3.3333331174e-1)
        square = f * f
        logarithm = f * square * p - _F32(0.5) * square + f
        logarithm += _F32(_I32(exponent)) * _F32(math.log(2.0))
        squared = _F32(-2.0) * logarithm
        radius = np.sqrt(squared if squared > _F32(0.0) else _F32(0.0))
        # Thirty bits for an angle within an eighth of a turn either way, one for which of two axes
        # it is from, one for which end of it.
        angle = angles[i]
        t = _F32(_I32(_U32(angle << _U32(2)))) * _EIGHTH
        y = t * t
        sine = _F32(-1.6666654611e-1) + y * (_F32(8.3321608736e-3) + y * _F32(-1.9515295891e-4))
        sine = t + t * y * sine
        cosine = _F32(4.166664568298827e-2)
        cosine += y * (_F32(-1.388731625493765e-3) + y * _F32(2.443315711809948e-5))
        cosine = _F32(1.0) + y * (_F32(-0.5) + y * cosine)
        radius = radius if _I32(angle) >= _I32(0) else -radius
        turned = _I32(_U32(angle << _U32(1))) >= _I32(0)
        ahead[i] = radius * (cosine if turned else sine)
        aside[i] = radius * (sine if turned else cosine)


@kernel
def room_for_normals() -> tuple[np.ndarray, np.ndarray]:
    """Room for a block of normal numbers, and for what they are made of."""
    return np.empty(BLOCK, np.float32), np.empty((8, WORDS), np.uint32)


@kernel
def normals(noise: np.ndarray, room: np.ndarray, first: int, draw: int, key: np.ndarray) -> None:
    """A block of normal numbers, the block that starts at entry `first` of a draw.

    Blocks of a draw are made in their order, in the same room.
    """
    words, state = room[:4], room[4:]
    block = first // BLOCK
    if block == 0:
        philox(words, 0, draw, key)
    else:
        if block % STRETCH == 1:
            philox(state, first // 4, draw, key)
        xoshiro(words, state)
    box_muller(words[0], words[1], noise[:WORDS], noise[WORDS : 2 * WORDS])
    box_muller(words[2], words[3], noise[2 * WORDS : 3 * WORDS], noise[3 * WORDS :])


@kernel
def fill_normal(out: np.ndarray, draws: np.ndarray, keys: np.ndarray) -> None:
    """Normal numbers (chain, entry), single precision; each chain's draws are counted up."""
    noise, room = room_for_normals()
    for chain in range(len(out)):
        row = out[chain]
        for first in range(0, len(row), BLOCK):
            normals(noise, room, first, draws[chain], keys[chain])
            part = row[first : first + BLOCK]
            for i in range(len(part)):
                part[i] = noise[i]
        draws[chain] += 1


@kernel
def fill_normal_double(out: np.ndarray, draws: np.ndarray, keys: np.ndarray) -> None:
    """The same in double precision, radius and angle from 52 bits each."""
    words = np.empty((4, WORDS), np.uint32)
    for chain in range(len(out)):
        row = out[chain]
        for first in range(0, len(row), 2 * WORDS):
            philox(words, first // 2, draws[chain], keys[chain])
            for i in range(min(WORDS, (len(row) - first + 1) // 2)):
                radius = math.sqrt(-2.0 * math.log(_unit(words[0, i], words[1, i])))
                angle = 2.0 * math.pi * _unit(words[2, i], words[3, i])
                row[first + 2 * i] = radius * math.cos(angle)
                if first + 2 * i + 1 < len(row):
                    row[first + 2 * i + 1] = radius * math.sin(angle)
        draws[chain] += 1


@kernel
def fill_uniform(out: np.ndarray, draws: np.ndarray, keys: np.ndarray) -> None:
    """Numbers (chain, entry) between 0 and 1, neither included, double precision."""
    words = np.empty((4, WORDS), np.uint32)
    for chain in range(len(out)):
        row = out[chain]
        for first in range(0, len(row), 2 * WORDS):
            philox(words, first // 2, draws[chain], keys[chain])
            for i in range(min(2 * WORDS, len(row) - first)):
                pair = 2 * (i % 2)
                row[first + i] = _unit(words[pair, i // 2], words[pair + 1, i // 2])
        draws[chain] += 1


@kernel
def fill_index(out: np.ndarray, size: int, draws: np.ndarray, keys: np.ndarray) -> None:
    """Whole numbers (chain, entry) from 0 to below `size`, each as likely up to size / 2**52."""
    words = np.empty((4, WORDS), np.uint32)
    for chain in range(len(out)):
        row = out[chain]
        for first in range(0, len(row), 2 * WORDS):
            philox(words, first // 2, draws[chain], keys[chain])
            for i in range(min(2 * WORDS, len(row) - first)):
                pair = 2 * (i % 2)
                row[first + i] = int(size * _unit(words[pair, i // 2], words[pair + 1, i // 2]))
        draws[chain] += 1


@kernel
def _unit(high: int, low: int) -> float:
    """A number between 0 and 1, neither included, from two words."""
    whole = (_U64(high) << _U64(32) | _U64(low)) >> _U64(12)
    return (float(whole) + 0.5) * 2.0**-52
