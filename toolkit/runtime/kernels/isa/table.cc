// The table of this instruction set's kernels.
#include "kernels/isa/functions.h"

#define TOOLKIT_STRING_OF(x) #x
#define TOOLKIT_STRING(x) TOOLKIT_STRING_OF(x)

namespace toolkit {
namespace TOOLKIT_ISA {

extern const KernelTable table;
const KernelTable table = {TOOLKIT_STRING(TOOLKIT_ISA), head_sweeps,
#define TOOLKIT_ADDRESS(name, parameters) name,
                           TOOLKIT_KERNELS(TOOLKIT_ADDRESS)
#undef TOOLKIT_ADDRESS
};

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
