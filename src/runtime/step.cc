#include "runtime/step.h"

#include "base/error.h"

namespace octet {

int64_t StepRequest::opset() const {
  const auto it = graph->opsets.find(node->domain);
  return it == graph->opsets.end() ? 1 : it->second;
}

Step NewStep(const StepRequest& request, std::string kernel) {
  Step step;
  step.info.kernel = std::move(kernel);
  step.input_layouts.assign(request.inputs.size(), Layout::kPlain);
  step.output_layouts.assign(request.outputs.size(), Layout::kPlain);
  return step;
}

bool OffersChannelsLast(const StepRequest& request, size_t i) {
  return request.has(i) && request.inputs[i].layout == Layout::kChannelsLast;
}

void FailStep(const StepRequest& request, std::string_view what) {
  Fail(ErrorCode::kUnsupported, "run: node '", request.node->name, "' (", request.node->op,
       "): ", what);
}

std::vector<int64_t> ConstantInts(const StepRequest& request, size_t i) {
  const Tensor* t = request.constant(i);
  if (t == nullptr) FailStep(request, Cat("input ", i, " must be known when the plan is made"));
  std::vector<int64_t> values;
  if (t->dtype() == DType::kInt64) {
    const auto data = t->data<int64_t>();
    values.assign(data.begin(), data.end());
  } else if (t->dtype() == DType::kInt32) {
    const auto data = t->data<int32_t>();
    values.assign(data.begin(), data.end());
  } else {
    FailStep(request, Cat("input ", i, " is ", NameOf(t->dtype()), ", expected int64 or int32"));
  }
  return values;
}

double ConstantScalar(const StepRequest& request, size_t i) {
  const Tensor* t = request.constant(i);
  if (t == nullptr) FailStep(request, Cat("input ", i, " must be known when the plan is made"));
  if (t->elements() < 1) FailStep(request, Cat("input ", i, " is empty, expected one element"));
  switch (t->dtype()) {
    case DType::kFloat32:
      return t->data<float>()[0];
    case DType::kFloat64:
      return t->data<double>()[0];
    case DType::kInt8:
      return t->data<int8_t>()[0];
    case DType::kUint8:
      return t->data<uint8_t>()[0];
    case DType::kInt16:
      return t->data<int16_t>()[0];
    case DType::kUint16:
      return t->data<uint16_t>()[0];
    case DType::kInt32:
      return t->data<int32_t>()[0];
    case DType::kUint32:
      return t->data<uint32_t>()[0];
    case DType::kInt64:
      return static_cast<double>(t->data<int64_t>()[0]);
    case DType::kUint64:
      return static_cast<double>(t->data<uint64_t>()[0]);
    case DType::kBool:
      return t->data<bool>()[0] ? 1.0 : 0.0;
    default:
      FailStep(request, Cat("input ", i, " is ", NameOf(t->dtype()), ", expected a number"));
  }
}

int Axis(const StepRequest& request, int64_t axis, int rank) {
  if (axis < -rank || axis >= rank) {
    Fail(ErrorCode::kBadFile, "run: node '", request.node->name, "' (", request.node->op,
         "): axis ", axis, " is outside [-", rank, ", ", rank, ")");
  }
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

}  // namespace octet
