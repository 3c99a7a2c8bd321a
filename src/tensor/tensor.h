// Shape, Tensor (owns its memory, move-only) and the two views (never own). Data are dense,
// row-major.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <span>
#include <string>

#include "base/error.h"
#include "tensor/dtype.h"

namespace octet {

inline constexpr int kMaxRank = 8;

// Concrete dimensions, each >= 0. Rank 0 is a scalar of one element.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(
      std::span<const int64_t> dims);  // throws kUnsupported above kMaxRank, or if negative

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  void set(int i, int64_t dim) { dims_[static_cast<size_t>(i)] = dim; }
  [[nodiscard]] std::span<const int64_t> dims() const {
    return {dims_.data(), static_cast<size_t>(rank_)};
  }
  [[nodiscard]] int64_t elements() const;  // throws kUnsupported where the product overflows
  [[nodiscard]] int64_t product(int begin, int end) const;  // of dimensions [begin, end)
  [[nodiscard]] std::string ToString() const;               // "[1,3,224,224]"

  friend bool operator==(const Shape& a, const Shape& b);

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);

// Read-only window on somebody else's memory.
struct TensorView {
  DType dtype = DType::kUndefined;
  Shape shape;
  const void* raw = nullptr;

  [[nodiscard]] int64_t elements() const { return shape.elements(); }
  [[nodiscard]] int64_t bytes() const { return elements() * SizeOf(dtype); }
  template <typename T>
  [[nodiscard]] std::span<const T> data() const {
    OCTET_INVARIANT(dtype == DTypeOf<T>());
    return {static_cast<const T*>(raw), static_cast<size_t>(elements())};
  }
};

// Writable window on somebody else's memory.
struct MutableTensorView {
  DType dtype = DType::kUndefined;
  Shape shape;
  void* raw = nullptr;

  [[nodiscard]] int64_t elements() const { return shape.elements(); }
  [[nodiscard]] int64_t bytes() const { return elements() * SizeOf(dtype); }
  template <typename T>
  [[nodiscard]] std::span<T> data() const {
    OCTET_INVARIANT(dtype == DTypeOf<T>());
    return {static_cast<T*>(raw), static_cast<size_t>(elements())};
  }
  operator TensorView() const {
    return {dtype, shape, raw};
  }  // NOLINT: a view narrows to read-only
};

// Owns its elements: 64-byte aligned when allocated here. Borrow() keeps foreign memory (a mapped
// file, a parsed message) alive instead of copying it; such a tensor is read-only.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, const Shape& shape);  // elements are zero
  Tensor(Tensor&&) noexcept = default;
  Tensor& operator=(Tensor&&) noexcept = default;
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  [[nodiscard]] static Tensor Borrow(DType dtype, const Shape& shape, const void* data,
                                     std::shared_ptr<const void> owner);
  [[nodiscard]] static Tensor CopyOf(const TensorView& view);
  template <typename T>
  [[nodiscard]] static Tensor Of(const Shape& shape, std::span<const T> values) {
    Tensor t(DTypeOf<T>(), shape);
    OCTET_INVARIANT(static_cast<int64_t>(values.size()) == shape.elements());
    auto out = t.template mutable_data<T>();
    for (size_t i = 0; i < values.size(); ++i) out[i] = values[i];
    return t;
  }
  template <typename T>
  [[nodiscard]] static Tensor Of(const Shape& shape, std::initializer_list<T> values) {
    return Of<T>(shape, std::span<const T>(values.begin(), values.size()));
  }
  template <typename T>
  [[nodiscard]] static Tensor Scalar(T value) {
    return Of<T>(Shape{}, {value});
  }

  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] int64_t elements() const { return shape_.elements(); }
  [[nodiscard]] int64_t bytes() const { return elements() * SizeOf(dtype_); }
  [[nodiscard]] const void* raw() const { return data_; }
  [[nodiscard]] void* mutable_raw();
  template <typename T>
  [[nodiscard]] std::span<const T> data() const {
    return view().data<T>();
  }
  template <typename T>
  [[nodiscard]] std::span<T> mutable_data() {
    return mutable_view().data<T>();
  }

  [[nodiscard]] TensorView view() const { return {dtype_, shape_, data_}; }
  [[nodiscard]] MutableTensorView mutable_view() { return {dtype_, shape_, mutable_raw()}; }
  [[nodiscard]] Tensor Clone() const { return CopyOf(view()); }
  // The same elements under another shape of equal size. Moves the memory, copies nothing.
  [[nodiscard]] Tensor Reshaped(const Shape& shape) &&;

 private:
  DType dtype_ = DType::kUndefined;
  Shape shape_;
  std::shared_ptr<const void> owner_;
  const void* data_ = nullptr;
  bool writable_ = false;
};

}  // namespace octet
