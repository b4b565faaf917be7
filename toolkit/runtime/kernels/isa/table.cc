// The table of this instruction set's primitives.
#include "kernels/isa/few_rows.h"
#include "kernels/isa/gemm.h"
#include "kernels/isa/rows.h"

namespace toolkit {
namespace TOOLKIT_ISA {

extern const Primitives primitives;
const Primitives primitives = {
    kTiles,
    {"float32", kQuantGroup, float32::left_bytes, float32::right_bytes, float32::buffer_bytes,
     pack_left, pack_ones, pack_right, multiply_groups},
    {few_rows::kMostFloat32, double_row, multiply_panel},
#define TOOLKIT_ADDRESS(name, parameters) name,
    TOOLKIT_ROW_PRIMITIVES(TOOLKIT_ADDRESS)
#undef TOOLKIT_ADDRESS
};

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
