// `trainer generate`: requests as lines, answers as lines of JSON.
#pragma once

#include <vector>

#include "engine/training/options.h"
#include "hosts/toolkit_trainer.h"

namespace toolkit {

// Until the requests end; returns the exit code. The same options twice, as both sides write them.
int run_generate(const std::vector<OptionValue>& values,
                 const std::vector<toolkit_option>& options);

}  // namespace toolkit
