// The products of a few rows in fixed16, and in float32 where bytes are multiplied much faster.
#if defined(TOOLKIT_VNNI) && TOOLKIT_LANES == 16
#include "kernels/isa/row_groups_vnni.h"
#define TOOLKIT_BYTE_GROUP VnniGroup
#elif defined(TOOLKIT_DOTPROD)
#include "kernels/isa/row_groups_dotprod.h"
#define TOOLKIT_BYTE_GROUP DotGroup
#else
#include "kernels/isa/row_groups_pairs.h"
#endif

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

template <class Kind>
constexpr RowProducts products_of(int64_t most) {
  return {most, pack_row_of<Kind>, multiply_panel_of<Kind>};
}

}  // namespace

extern const RowProducts few_rows_fixed16;
#ifdef TOOLKIT_BYTE_GROUP
const RowProducts few_rows_fixed16 = products_of<TOOLKIT_BYTE_GROUP<2>>(kTiles.few_rows);

extern const RowProducts few_rows_float32;
const RowProducts few_rows_float32 = products_of<TOOLKIT_BYTE_GROUP<3>>(few_rows::kMostFloat32);
#else
const RowProducts few_rows_fixed16 = products_of<PairGroup>(kTiles.few_rows);
#endif

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
