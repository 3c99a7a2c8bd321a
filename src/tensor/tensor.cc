#include "tensor/tensor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/checked_math.h"

namespace octet {
namespace {

struct DTypeRow {
  DType dtype;
  int64_t size;
  std::string_view name;
};

constexpr DTypeRow kDTypes[] = {
    {DType::kUndefined, 0, "undefined"},
    {DType::kFloat32, 4, "float32"},
    {DType::kFloat64, 8, "float64"},
    {DType::kFloat16, 2, "float16"},
    {DType::kBFloat16, 2, "bfloat16"},
    {DType::kInt8, 1, "int8"},
    {DType::kUint8, 1, "uint8"},
    {DType::kInt16, 2, "int16"},
    {DType::kUint16, 2, "uint16"},
    {DType::kInt32, 4, "int32"},
    {DType::kUint32, 4, "uint32"},
    {DType::kInt64, 8, "int64"},
    {DType::kUint64, 8, "uint64"},
    {DType::kBool, 1, "bool"},
    {DType::kFloat8E4M3Fn, 1, "float8_e4m3fn"},
    {DType::kFloat8E4M3FnUz, 1, "float8_e4m3fnuz"},
    {DType::kFloat8E5M2, 1, "float8_e5m2"},
    {DType::kFloat8E5M2FnUz, 1, "float8_e5m2fnuz"},
};

const DTypeRow& Row(DType dtype) {
  for (const auto& row : kDTypes) {
    if (row.dtype == dtype) return row;
  }
  return kDTypes[0];
}

}  // namespace

int64_t SizeOf(DType dtype) { return Row(dtype).size; }
std::string_view NameOf(DType dtype) { return Row(dtype).name; }

DType ParseDType(std::string_view name) {
  for (const auto& row : kDTypes) {
    if (row.name == name && row.dtype != DType::kUndefined) return row.dtype;
  }
  Fail(ErrorCode::kInvalidArgument, "unknown element type '", name, "'");
}

bool IsInteger(DType dtype) { return dtype >= DType::kInt8 && dtype <= DType::kUint64; }

Shape::Shape(std::span<const int64_t> dims) {
  if (dims.size() > kMaxRank) {
    Fail(ErrorCode::kUnsupported, "a tensor of rank ", dims.size(), "; the most is ", kMaxRank);
  }
  for (int64_t d : dims) {
    if (d < 0) Fail(ErrorCode::kUnsupported, "a tensor with the negative dimension ", d);
  }
  rank_ = static_cast<int>(dims.size());
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

int64_t Shape::elements() const {
  const auto n = CheckedProduct(dims());
  if (!n) Fail(ErrorCode::kUnsupported, "a tensor of shape ", ToString(), " has too many elements");
  return *n;
}

int64_t Shape::product(int begin, int end) const {
  int64_t r = 1;
  for (int i = begin; i < end; ++i) r *= (*this)[i];
  return r;
}

std::string Shape::ToString() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) {
    if (i > 0) s += ",";
    s += std::to_string((*this)[i]);
  }
  return s + "]";
}

bool operator==(const Shape& a, const Shape& b) {
  return a.rank_ == b.rank_ && std::equal(a.dims().begin(), a.dims().end(), b.dims().begin());
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.ToString(); }

Tensor::Tensor(DType dtype, const Shape& shape) : dtype_(dtype), shape_(shape), writable_(true) {
  const auto bytes = CheckedMul(shape.elements(), SizeOf(dtype));
  if (!bytes) Fail(ErrorCode::kUnsupported, "a tensor of shape ", shape, " is too large");
  const size_t rounded = (static_cast<size_t>(std::max<int64_t>(*bytes, 1)) + 63) / 64 * 64;
  void* memory = std::aligned_alloc(64, rounded);
  if (memory == nullptr) {
    Fail(ErrorCode::kUnsupported, "no memory for a ", NameOf(dtype), " tensor of shape ", shape,
         " (", *bytes, " bytes)");
  }
  std::memset(memory, 0, rounded);
  owner_ = std::shared_ptr<void>(memory, std::free);
  data_ = memory;
}

Tensor Tensor::Borrow(DType dtype, const Shape& shape, const void* data,
                      std::shared_ptr<const void> owner) {
  Tensor t;
  t.dtype_ = dtype;
  t.shape_ = shape;
  t.owner_ = std::move(owner);
  t.data_ = data;
  return t;
}

Tensor Tensor::CopyOf(const TensorView& view) {
  Tensor t(view.dtype, view.shape);
  const auto bytes = static_cast<size_t>(view.bytes());
  if (bytes > 0) std::memcpy(t.mutable_raw(), view.raw, bytes);
  return t;
}

void* Tensor::mutable_raw() {
  OCTET_INVARIANT(writable_);
  return const_cast<void*>(data_);
}

Tensor Tensor::Reshaped(const Shape& shape) && {
  OCTET_INVARIANT(shape.elements() == shape_.elements());
  Tensor t = std::move(*this);
  t.shape_ = shape;
  return t;
}

}  // namespace octet
