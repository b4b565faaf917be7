"""Normal numbers by their place, with the bits of `runtime/kernels/isa/normal.cc`.

Element i of a stream is a function of the stream and i alone. Philox4x32-10 (Salmon et al., 2011)
makes four words w of the counter (i // 4, and the stream's three words) and the key, the seed with
its low word first. Each pair of words gives two normals by Box and Muller:

    u = (2 (w0 >> 9) + 1) / 2^24,  r = sqrt(-2 ln u)
    x = (2 ((w1 >> 7) mod 2^23) + 1) / 2^24 - 1/2,  angle = (x + (w1 >> 30)) pi / 2
    z0 = r cos(angle), z1 = r sin(angle)

All of it is single float32 operations in the order written here, with Cephes' polynomials.
"""

import numpy as np

Floats = np.ndarray
Words = np.ndarray

_MULTIPLY = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10
_CHUNK = 1 << 16  # counters at a time: they stay in the processor's cache
_UNIT = np.float32(2.0**-24)
_LOGARITHM = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)


def normals(seed: int, counter: tuple[int, int, int], count: int) -> Floats:
    """Return the first numbers of a stream, float32 [count]."""
    blocks = -(-count // 4)
    z = np.empty((blocks, 4), np.float32)
    for first in range(0, blocks, _CHUNK):
        last = min(blocks, first + _CHUNK)
        words = _philox(seed, counter, first, last)
        z[first:last, 0], z[first:last, 1] = _pair(words[0], words[1])
        z[first:last, 2], z[first:last, 3] = _pair(words[2], words[3])
    flat: Floats = z.reshape(-1)[:count]
    return flat


def _philox(seed: int, counter: tuple[int, int, int], first: int, last: int) -> list[Words]:
    """Return the four words of counters `first` to `last`, uint64 below 2^32 each."""
    low, shift = np.uint64(_MASK), np.uint64(32)
    c0 = np.arange(first, last, dtype=np.uint64)
    c1, c2, c3 = (np.full_like(c0, word) for word in counter)
    keys = [seed & _MASK, seed >> 32 & _MASK]
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLY[0] * c0, _MULTIPLY[1] * c2
        c0, c1 = (p1 >> shift) ^ c1 ^ np.uint64(keys[0]), p1 & low
        c2, c3 = (p0 >> shift) ^ c3 ^ np.uint64(keys[1]), p0 & low
        keys = [(key + weyl) & _MASK for key, weyl in zip(keys, _WEYL, strict=True)]
    return [c0, c1, c2, c3]


def _pair(w0: Words, w1: Words) -> tuple[Floats, Floats]:
    """Return the two normals of every pair of words."""
    one, half = np.float32(1), np.float32(0.5)
    r = _radius((2 * (w0 >> np.uint64(9)) + np.uint64(1)).astype(np.float32) * _UNIT)
    middle = w1 >> np.uint64(7) & np.uint64(0x7FFFFF)
    x = (2 * middle + np.uint64(1)).astype(np.float32) * _UNIT - half
    t = x * np.float32(1.57079632679489662)
    square = t * t
    s = _polynomial(_SINE, square) * square * t + t
    c = _polynomial(_COSINE, square) * square * square - half * square + one
    quadrant = w1 >> np.uint64(30)
    odd = (quadrant & np.uint64(1)) == 1
    cosine, sine = np.where(odd, s, c), np.where(odd, c, s)
    left = (quadrant == 1) | (quadrant == 2)
    return r * np.where(left, -cosine, cosine), r * np.where(quadrant >= 2, -sine, sine)


def _radius(u: Floats) -> Floats:
    """Return sqrt(-2 ln u) of u in (0, 1)."""
    m, exponent = np.frexp(u)  # m in [1/2, 1)
    small = m < np.float32(0.707106781186547524)
    e = (exponent - small).astype(np.float32)
    m = np.where(small, m + m, m)
    x = m - np.float32(1)
    square = x * x
    p = _polynomial(_LOGARITHM, x) * x * square
    p = p - e * np.float32(2.12194440e-4)
    p = p - np.float32(0.5) * square
    radius: Floats = np.sqrt(np.float32(-2) * (x + p + e * np.float32(0.693359375)))
    return radius


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    """Return the polynomial by Horner's rule, the highest power first."""
    total = np.full_like(x, np.float32(coefficients[0]))
    for coefficient in coefficients[1:]:
        total = total * x + np.float32(coefficient)
    return total
