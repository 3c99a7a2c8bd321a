#include "runtime/ops/strided.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "runtime/ops/dispatch.h"

namespace octet::ops {

StridedCopy::StridedCopy(std::vector<int64_t> dims, std::vector<int64_t> from_strides,
                         std::vector<int64_t> to_strides, int64_t from_offset, int64_t to_offset)
    : from_offset_(from_offset), to_offset_(to_offset), elements_(1) {
  OCTET_INVARIANT(dims.size() == from_strides.size() && dims.size() == to_strides.size());
  for (int64_t d : dims) elements_ *= d;
  std::vector<size_t> order(dims.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::abs(to_strides[a]) > std::abs(to_strides[b]);
  });
  for (size_t i : order) {
    if (dims[i] == 1) continue;
    if (!dims_.empty() && from_strides_.back() == from_strides[i] * dims[i] &&
        to_strides_.back() == to_strides[i] * dims[i]) {
      dims_.back() *= dims[i];
      from_strides_.back() = from_strides[i];
      to_strides_.back() = to_strides[i];
      continue;
    }
    dims_.push_back(dims[i]);
    from_strides_.push_back(from_strides[i]);
    to_strides_.push_back(to_strides[i]);
  }
  if (dims_.empty()) {
    dims_ = {1};
    from_strides_ = to_strides_ = {1};
  }
}

bool StridedCopy::IsIdentity() const {
  return from_offset_ == 0 && to_offset_ == 0 && dims_.size() == 1 && from_strides_[0] == 1 &&
         to_strides_[0] == 1;
}

namespace {

template <typename T>
void CopyRow(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t n) {
  if (from_stride == 1 && to_stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  } else if (to_stride == 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i * from_stride];
  } else {
    for (int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
  }
}

}  // namespace

void StridedCopy::Run(const void* from, void* to, int64_t element_size) const {
  if (elements_ == 0) return;
  const size_t inner = dims_.size() - 1;
  const int64_t row = dims_[inner];
  const int64_t rows = elements_ / row;
  const auto copy = [&](int64_t a, int64_t b, int64_t n) {
    const char* source = static_cast<const char*>(from) + a * element_size;
    char* target = static_cast<char*>(to) + b * element_size;
    const int64_t fs = from_strides_[inner];
    const int64_t ts = to_strides_[inner];
    switch (element_size) {
      case 1:
        return CopyRow(reinterpret_cast<const uint8_t*>(source), fs,
                       reinterpret_cast<uint8_t*>(target), ts, n);
      case 2:
        return CopyRow(reinterpret_cast<const uint16_t*>(source), fs,
                       reinterpret_cast<uint16_t*>(target), ts, n);
      case 4:
        return CopyRow(reinterpret_cast<const uint32_t*>(source), fs,
                       reinterpret_cast<uint32_t*>(target), ts, n);
      default:
        return CopyRow(reinterpret_cast<const uint64_t*>(source), fs,
                       reinterpret_cast<uint64_t*>(target), ts, n);
    }
  };
  if (rows == 1) {
    ParallelFor(row, kElementGrain, [&](int64_t begin, int64_t end) {
      copy(from_offset_ + begin * from_strides_[inner], to_offset_ + begin * to_strides_[inner],
           end - begin);
    });
    return;
  }
  ParallelFor(rows, std::max<int64_t>(1, kElementGrain / row), [&](int64_t begin, int64_t end) {
    std::vector<int64_t> index(inner);
    int64_t a = from_offset_;
    int64_t b = to_offset_;
    int64_t rest = begin;
    for (size_t d = inner; d-- > 0;) {
      index[d] = rest % dims_[d];
      rest /= dims_[d];
      a += index[d] * from_strides_[d];
      b += index[d] * to_strides_[d];
    }
    for (int64_t i = begin; i < end; ++i) {
      copy(a, b, row);
      for (size_t d = inner; d-- > 0;) {
        a += from_strides_[d];
        b += to_strides_[d];
        if (++index[d] < dims_[d]) break;
        a -= dims_[d] * from_strides_[d];
        b -= dims_[d] * to_strides_[d];
        index[d] = 0;
      }
    }
  });
}

}  // namespace octet::ops
