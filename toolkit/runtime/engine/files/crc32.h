// CRC-32 as zlib, Python and Java have it (polynomial 0x04C11DB7, reflected): the checksum of what
// an export writes. Computed by the processor's own instructions where it has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/files/files.h"

namespace toolkit {

// The checksum of bytes that follow those `crc` is of; 0 begins.
uint32_t crc32(uint32_t crc, const void* data, size_t bytes);

// The same without instructions made for it, which every processor can run.
uint32_t crc32_by_tables(uint32_t crc, const void* data, size_t bytes);

// The checksum of a part of a file, which is read for it piece by piece. Throws Error.
uint32_t crc32(const File& file, int64_t offset, int64_t bytes);

}  // namespace toolkit
