// What scratch an operator takes, found by running it without computing anything.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

namespace toolkit {

/// Bytes of scratch that an operator has in use at once, at most; inside a DryRun only. `call` is
/// its name and its values in the order of its schema, results after "->":
///
///   lora_linear float32[1,5,64] uint8[2,64,8] float16[2,2,16] - - float32[3,64] float32[32,3] 2.0
///     -> float32[1,5,32]
///
/// with None as "-", numbers, true and false as they are, and "~" before a result that is given no
/// memory, since it is not to be computed; "4*lora_linear ..." is of so many calls side by side
/// (together.h). Throws Error for an operator that is not registered or does not take these values.
int64_t scratch_bytes(const std::string& call);

/// Answers every line of `calls` with a line of JSON, {"bytes":N}, for an instruction set, a number
/// of threads and an arithmetic. Throws as DryRun and scratch_bytes do.
void answer_scratch(const std::string& isa, int threads, const std::string& arithmetic,
                    std::istream& calls, std::ostream& answers);

}  // namespace toolkit
