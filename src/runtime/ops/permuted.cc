#include "runtime/ops/permuted.h"

#include <numeric>

#include "base/error.h"
#include "runtime/ops/families.h"

namespace octet::ops {

PermutedOperand PermutedBy(const StepRequest& r, const Shape& shape, std::string_view key,
                           size_t rank) {
  const auto strides = StridesOf(shape, Layout::kPlain);
  std::vector<int64_t> perm = r.node->GetInts(std::string(key), {});
  if (perm.empty()) {
    perm.resize(strides.size());
    std::iota(perm.begin(), perm.end(), 0);
  }
  if (perm.size() != strides.size() || perm.size() > rank)
    FailStep(r, Cat(key, " does not fit ", shape.ToString()));
  PermutedOperand o;
  o.dims.assign(rank - perm.size(), 1);
  o.strides.assign(rank - perm.size(), 0);
  for (const int64_t from : perm) {
    o.dims.push_back(shape[static_cast<int>(from)]);
    o.strides.push_back(strides.at(static_cast<size_t>(from)));
  }
  for (size_t d = 0; d + 2 < rank; ++d)
    if (o.dims[d] == 1) o.strides[d] = 0;
  return o;
}

std::vector<int64_t> MatrixOffsets(const PermutedOperand& operand,
                                   const std::vector<int64_t>& batch) {
  int64_t count = 1;
  for (const int64_t d : batch) count *= d;
  std::vector<int64_t> offsets, index(batch.size(), 0);
  for (int64_t i = 0; i < count; ++i) {
    int64_t at = 0;
    for (size_t d = 0; d < batch.size(); ++d) at += index[d] * operand.strides[d];
    offsets.push_back(at);
    for (size_t d = batch.size(); d-- > 0;) {
      if (++index[d] < batch[d]) break;
      index[d] = 0;
    }
  }
  return offsets;
}

ScoreSoftmax::ScoreSoftmax(const StepRequest& r, size_t mask, const std::vector<int64_t>& dims)
    : scale_(r.node->GetFloat("softmax_scale", 1.0F)),
      rows_(dims[dims.size() - 2]),
      n_(dims.back()),
      input_(mask),
      masked_(r.has(mask)) {
  if (!masked_) return;
  const size_t rank = dims.size();
  if (r.dtype(mask) != DType::kFloat32 || r.shape(mask).rank() < 1)
    FailStep(r, Cat("the mask is ", NameOf(r.dtype(mask)), r.shape(mask).ToString()));
  PermutedOperand m = PermutedBy(r, r.shape(mask), "", rank);
  for (size_t d = 0; d < rank; ++d) {
    if (m.dims[d] != dims[d] && (m.dims[d] != 1 || d + 1 == rank))
      FailStep(r, Cat("the mask is ", r.shape(mask).ToString()));
  }
  row_stride_ = m.dims[rank - 2] == 1 ? 0 : m.strides[rank - 2];
  offsets_ = MatrixOffsets(m, {dims.begin(), dims.end() - 2});
}

void ScoreSoftmax::Run(const StepArgs& args, int64_t matrix, float* scores,
                       const kernels::CodesOut& codes) const {
  if (!masked_) return kernels::Softmax(scores, rows_, n_, scores, codes, scale_);
  const float* mask = args.in<float>(input_) + offsets_[static_cast<size_t>(matrix)];
  for (int64_t i = 0; i < rows_; ++i) {
    const float* add = mask + i * row_stride_;
    float* row = scores + i * n_;
    for (int64_t j = 0; j < n_; ++j) row[j] = row[j] * scale_ + add[j];
  }
  kernels::Softmax(scores, rows_, n_, scores, codes, 1.0F);
}

}  // namespace octet::ops
