// What makes two runs the same run: what --resume must not change, and what it may.
#pragma once

#include <string>
#include <vector>

#include "engine/model/adapter.h"
#include "engine/model/dataset.h"
#include "engine/training/layers.h"
#include "engine/training/options.h"
#include "engine/training/state.h"

namespace toolkit {

// What must be the same for a run to go on with the same bits.
std::vector<Field> identity_of(const Options& options, const Bundle& bundle, const Dataset& data,
                               const TrainedLayers& trained);

// Throws Error naming the first thing in which a saved run differs, and what to do about it.
void check_identity(const std::string& path, const std::vector<Field>& saved,
                    const std::vector<Field>& present);

// Settings that change what a run computes and may change when it is resumed.
std::vector<Field> settings_of(const Options& options);

// What differs, as "lr 0.0001 -> 0.0005, steps 50 -> 100"; empty if
// nothing did.
std::string changed_settings(const std::vector<Field>& saved, const std::vector<Field>& present);

}  // namespace toolkit
