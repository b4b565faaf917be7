// Sine and cosine of vectors of floats, as rotary embedding needs them.
#pragma once

#include "kernels/isa/simd.h"

namespace toolkit {
namespace TOOLKIT_ISA {

struct SineCosine {
  Floats sine, cosine;
};

/// Of angles up to 2^20, within 0.51 ulp: in double, with the multiple of pi/2 that is nearest
/// taken off in two parts (the first has 33 bits, so that its product is exact), then the Taylor
/// series on |r| <= pi/4, whose first missing terms are below 2e-10.
inline SineCosine sine_cosine(Floats angle) {
  typedef int64_t Longs __attribute__((vector_size(sizeof(Doubles))));
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
  constexpr double kHalfPi = 1.57079632673412561417, kHalfPiRest = 6.07710050650619224932e-11;
  const Doubles x = widen(angle), shifted = x * 0.63661977236758134308 + kMagic;
  const Doubles n = shifted - kMagic, r = x - n * kHalfPi - n * kHalfPiRest, z = r * r;
  const Doubles sine =
      r + r * z *
              (-1.0 / 6 +
               z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880 - z * (1.0 / 39916800)))));
  const Doubles cosine =
      1.0 +
      z * (-0.5 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 - z * (1.0 / 3628800)))));
  const Longs quadrant = (Longs)shifted;
  const Longs odd = -(quadrant & 1);
  const Longs swap = ((Longs)sine ^ (Longs)cosine) & odd;
  const Longs sine_sign = (quadrant >> 1) << 63;
  const Longs cosine_sign = ((quadrant + 1) >> 1) << 63;
  return {narrow((Doubles)((Longs)sine ^ swap ^ sine_sign)),
          narrow((Doubles)((Longs)cosine ^ swap ^ cosine_sign))};
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
