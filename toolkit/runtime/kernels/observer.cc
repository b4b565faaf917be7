#include "kernels/observer.h"

namespace toolkit {
namespace {
OperatorObserver installed_observer = nullptr;
}

void set_operator_observer(OperatorObserver observer) { installed_observer = observer; }
OperatorObserver operator_observer() { return installed_observer; }

}  // namespace toolkit
