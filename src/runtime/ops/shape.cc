// Operators about shapes and the making of tensors: Shape, Size, ConstantOfShape, Range. In a plan
// they are mostly evaluated once, when it is made.
#include <algorithm>
#include <cstring>

#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {

Step MakeShape(const StepRequest& r) {
  const Shape& x = r.shape(0);
  const auto bound = [&](std::string_view key, int64_t otherwise) {
    const int64_t v = r.node->GetInt(key, otherwise);
    return std::clamp<int64_t>(v < 0 ? v + x.rank() : v, 0, x.rank());
  };
  const int64_t start = bound("start", 0);
  const int64_t end = bound("end", x.rank());
  std::vector<int64_t> dims;
  for (int64_t i = start; i < end; ++i) dims.push_back(x[static_cast<int>(i)]);
  Step step = NewStep(r, "octet:shape");
  step.input_layouts[0] = r.inputs[0].layout;
  step.run = [dims](const StepArgs& a) { std::copy(dims.begin(), dims.end(), a.out<int64_t>(0)); };
  return step;
}

Step MakeSize(const StepRequest& r) {
  Step step = NewStep(r, "octet:size");
  step.input_layouts[0] = r.inputs[0].layout;
  step.run = [n = r.shape(0).elements()](const StepArgs& a) { *a.out<int64_t>(0) = n; };
  return step;
}

Step MakeConstantOfShape(const StepRequest& r) {
  ConstantPtr value;
  const auto it = r.node->attributes.find("value");
  if (it != r.node->attributes.end()) value = std::get<ConstantPtr>(it->second);
  if (value && value->elements() != 1)
    FailStep(r, Cat("value has ", value->elements(), " elements, expected 1"));
  Step step = NewStep(r, "octet:fill");
  const int64_t size = SizeOf(r.outputs[0].dtype);
  step.run = [value, size](const StepArgs& a) {
    auto* y = a.out<unsigned char>(0);
    const int64_t n = a.outputs[0].elements();
    for (int64_t i = 0; i < n; ++i) {
      if (value) {
        std::memcpy(y + i * size, value->raw(), static_cast<size_t>(size));
      } else {
        std::memset(y + i * size, 0, static_cast<size_t>(size));  // float32 0
      }
    }
  };
  return step;
}

Step MakeRange(const StepRequest& r) {
  return WithNumber(r, r.dtype(0), [&](auto zero) {
    using T = decltype(zero);
    Step step = NewStep(r, "octet:range");
    step.run = [](const StepArgs& a) {
      const T start = *a.in<T>(0);
      const T delta = *a.in<T>(2);
      const int64_t n = a.outputs[0].elements();
      for (int64_t i = 0; i < n; ++i)
        a.out<T>(0)[i] = static_cast<T>(start + static_cast<T>(i) * delta);
    };
    return step;
  });
}

}  // namespace octet::ops
