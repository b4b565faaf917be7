// What computes the layers above a cut, where these are not on this device (split training).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "engine/model/network.h"

namespace toolkit {

class UpperLayers {
 public:
  virtual ~UpperLayers() = default;
  // A step of so many rows with so many labelled tokens in all follows.
  virtual void begin(size_t rows, int64_t labelled) = 0;
  // Row after row: `hidden` of the frame [T, D] is what goes into the first upper layer.
  virtual void give(const Frame& frame) = 0;
  // After all rows: the sum of token losses. `waiting` is called again and again until it is
  // there, and may throw.
  virtual double loss(const std::function<void()>& waiting) = 0;
  // Row after row: the gradient [T, D] of the step's loss, of what was given.
  virtual void take(float* gradient) = 0;
};

}  // namespace toolkit
