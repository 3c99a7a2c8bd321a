// ONNX tensors (onnx.in.proto, TensorProto): raw_data is little-endian and row-major; the typed
// fields hold one element each, the small integers, bool, float16, bfloat16 and float8 in
// int32_data, uint32 in uint64_data.
#include "files/onnx_tensor.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "base/checked_math.h"

namespace octet {

static_assert(std::endian::native == std::endian::little,
              "raw_data is borrowed as it lies in the file");

namespace {

constexpr std::pair<int32_t, DType> kTypes[] = {
    {1, DType::kFloat32},
    {2, DType::kUint8},
    {3, DType::kInt8},
    {4, DType::kUint16},
    {5, DType::kInt16},
    {6, DType::kInt32},
    {7, DType::kInt64},
    {9, DType::kBool},
    {10, DType::kFloat16},
    {11, DType::kFloat64},
    {12, DType::kUint32},
    {13, DType::kUint64},
    {16, DType::kBFloat16},
    {17, DType::kFloat8E4M3Fn},
    {18, DType::kFloat8E4M3FnUz},
    {19, DType::kFloat8E5M2},
    {20, DType::kFloat8E5M2FnUz},
};

constexpr std::pair<int32_t, std::string_view> kForeignTypes[] = {
    {8, "string"},      {14, "complex64"},  {15, "complex128"}, {21, "uint4"}, {22, "int4"},
    {23, "float4e2m1"}, {24, "float8e8m0"}, {25, "uint2"},      {26, "int2"},
};

Shape ShapeOf(const onnx::TensorProto& proto, const std::string& what) {
  if (proto.dims_size() > kMaxRank) {
    Fail(ErrorCode::kUnsupported, what, ": rank ", proto.dims_size(), "; the most is ", kMaxRank);
  }
  const std::span<const int64_t> dims(proto.dims().data(), static_cast<size_t>(proto.dims_size()));
  for (int64_t d : dims) {
    if (d < 0) Fail(ErrorCode::kBadFile, what, ": negative dimension ", d);
  }
  const auto elements = CheckedProduct(dims);
  if (!elements || !CheckedMul(*elements, 8)) {
    Fail(ErrorCode::kBadFile, what, ": the product of its dimensions overflows");
  }
  return Shape(dims);
}

// Borrows `size` bytes at `data`; copies where the address does not suit the element type.
Tensor BorrowOrCopy(DType dtype, const Shape& shape, const std::byte* data,
                    std::shared_ptr<const void> owner) {
  if (shape.elements() == 0) return Tensor(dtype, shape);
  if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(SizeOf(dtype)) != 0) {
    return Tensor::CopyOf({dtype, shape, data});
  }
  return Tensor::Borrow(dtype, shape, data, std::move(owner));
}

// A bool is read as C++ bool later, for which any byte but 0 and 1 is undefined behaviour.
void CheckBools(std::span<const std::byte> bytes, const std::string& what) {
  const bool valid =
      std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b <= std::byte{1}; });
  if (!valid) Fail(ErrorCode::kBadFile, what, ": a bool that is neither 0 nor 1");
}

void CheckSize(uint64_t got, int64_t expected, std::string_view unit, const Shape& shape,
               DType dtype, const std::string& what) {
  if (std::cmp_not_equal(got, expected)) {
    Fail(ErrorCode::kBadFile, what, ": ", NameOf(dtype), shape.ToString(), " needs ", expected, " ",
         unit, ", got ", got);
  }
}

// Copies one typed field, element by element, refusing what does not fit T.
template <typename T, typename Field>
Tensor FromField(DType dtype, const Shape& shape, const Field& field, const std::string& what) {
  CheckSize(static_cast<uint64_t>(field.size()), shape.elements(), "elements", shape, dtype, what);
  Tensor tensor(dtype, shape);
  auto* out = static_cast<std::byte*>(tensor.mutable_raw());
  for (int i = 0; i < field.size(); ++i) {
    const auto value = field.Get(i);
    if constexpr (std::is_integral_v<T>) {
      if (!std::in_range<T>(value)) {
        Fail(ErrorCode::kBadFile, what, ": element ", i, " is ", value, ", out of range for ",
             NameOf(dtype));
      }
    }
    const T element = static_cast<T>(value);
    std::memcpy(out + static_cast<size_t>(i) * sizeof(T), &element, sizeof(T));
  }
  return tensor;
}

Tensor FromTypedFields(const onnx::TensorProto& proto, DType dtype, const Shape& shape,
                       const std::string& what) {
  switch (dtype) {
    case DType::kFloat32:
      return FromField<float>(dtype, shape, proto.float_data(), what);
    case DType::kFloat64:
      return FromField<double>(dtype, shape, proto.double_data(), what);
    case DType::kInt64:
      return FromField<int64_t>(dtype, shape, proto.int64_data(), what);
    case DType::kUint64:
      return FromField<uint64_t>(dtype, shape, proto.uint64_data(), what);
    case DType::kUint32:
      return FromField<uint32_t>(dtype, shape, proto.uint64_data(), what);
    case DType::kInt32:
      return FromField<int32_t>(dtype, shape, proto.int32_data(), what);
    case DType::kInt16:
      return FromField<int16_t>(dtype, shape, proto.int32_data(), what);
    case DType::kInt8:
      return FromField<int8_t>(dtype, shape, proto.int32_data(), what);
    case DType::kUint16:
    case DType::kFloat16:
    case DType::kBFloat16:
      return FromField<uint16_t>(dtype, shape, proto.int32_data(), what);
    case DType::kBool: {
      Tensor tensor = FromField<uint8_t>(dtype, shape, proto.int32_data(), what);
      CheckBools({static_cast<const std::byte*>(tensor.raw()), static_cast<size_t>(tensor.bytes())},
                 what);
      return tensor;
    }
    case DType::kUint8:
    case DType::kFloat8E4M3Fn:
    case DType::kFloat8E4M3FnUz:
    case DType::kFloat8E5M2:
    case DType::kFloat8E5M2FnUz:
      return FromField<uint8_t>(dtype, shape, proto.int32_data(), what);
    case DType::kUndefined:
      break;
  }
  Fail(ErrorCode::kBadFile, what, ": it has no element type");
}

int64_t ParseNumber(const std::string& text, std::string_view key, const std::string& what) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0) {
    Fail(ErrorCode::kBadFile, what, ": external_data ", key, " is '", text,
         "', expected a number >= 0");
  }
  return value;
}

Tensor FromExternalData(const onnx::TensorProto& proto, DType dtype, const Shape& shape,
                        ExternalData& external, const std::string& what) {
  std::string location;
  int64_t offset = 0;
  std::optional<int64_t> length;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") offset = ParseNumber(entry.value(), "offset", what);
    if (entry.key() == "length") length = ParseNumber(entry.value(), "length", what);
  }
  const auto file = external.Open(location, what);
  const auto bytes = file->bytes();
  const int64_t needed = shape.elements() * SizeOf(dtype);
  if (length) CheckSize(static_cast<uint64_t>(*length), needed, "bytes", shape, dtype, what);
  const auto end = CheckedAdd(offset, needed);
  if (!end || std::cmp_greater(*end, bytes.size())) {
    Fail(ErrorCode::kBadFile, what, ": bytes ", offset, " to ", offset, "+", needed,
         " of external data '", location, "', which has ", bytes.size());
  }
  const auto piece = bytes.subspan(static_cast<size_t>(offset), static_cast<size_t>(needed));
  if (dtype == DType::kBool) CheckBools(piece, what);
  return BorrowOrCopy(dtype, shape, piece.data(), file);
}

}  // namespace

std::optional<DType> DTypeOfOnnx(int64_t data_type) {
  for (const auto& [number, dtype] : kTypes) {
    if (number == data_type) return dtype;
  }
  return std::nullopt;
}

int32_t OnnxOfDType(DType dtype) {
  for (const auto& [number, type] : kTypes) {
    if (type == dtype) return number;
  }
  Fail(ErrorCode::kInternal, "ONNX has no number for the element type ", NameOf(dtype));
}

std::string OnnxTypeName(int64_t data_type) {
  if (const auto dtype = DTypeOfOnnx(data_type)) return std::string(NameOf(*dtype));
  for (const auto& [number, name] : kForeignTypes) {
    if (number == data_type) return Cat(name, " (TensorProto type ", number, ")");
  }
  return Cat("TensorProto type ", data_type);
}

std::shared_ptr<const MappedFile> ExternalData::Open(const std::string& location,
                                                     std::string_view tensor) {
  if (const auto it = files_.find(location); it != files_.end()) return it->second;
  const std::filesystem::path relative(location);
  const bool climbs =
      std::any_of(relative.begin(), relative.end(), [](const auto& part) { return part == ".."; });
  if (location.empty() || location.find('\0') != std::string::npos || relative.is_absolute() ||
      climbs) {
    Fail(ErrorCode::kBadFile, tensor, ": external data location '", location,
         "'; expected a path within the model's folder");
  }
  const std::filesystem::path root = folder_.empty() ? std::filesystem::path(".") : folder_;
  std::error_code error;
  const auto path = std::filesystem::canonical(root / relative, error);
  if (error) {
    Fail(ErrorCode::kIo, tensor, ": its external data '", (root / relative).string(),
         "' cannot be opened: ", error.message());
  }
  const auto home = std::filesystem::canonical(root, error);
  const auto [home_end, rest] = std::mismatch(home.begin(), home.end(), path.begin(), path.end());
  if (error || home_end != home.end() || rest == path.end()) {
    Fail(ErrorCode::kBadFile, tensor, ": external data location '", location,
         "' is a link that leaves the model's folder");
  }
  std::shared_ptr<const MappedFile> file;
  try {
    file = std::make_shared<const MappedFile>(path);
  } catch (const Error& cause) {
    Fail(cause.code(), tensor, ": its external data: ", cause.what());
  }
  files_.emplace(location, file);
  return file;
}

Tensor TakeTensor(onnx::TensorProto& proto, ExternalData& external, const std::string& what) {
  const auto dtype = DTypeOfOnnx(proto.data_type());
  if (!dtype) {
    if (proto.data_type() == 0) Fail(ErrorCode::kBadFile, what, ": it has no element type");
    Fail(ErrorCode::kUnsupported, what, ": element type ", OnnxTypeName(proto.data_type()));
  }
  if (proto.has_segment()) Fail(ErrorCode::kUnsupported, what, ": it is stored in segments");
  const Shape shape = ShapeOf(proto, what);
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) {
    return FromExternalData(proto, *dtype, shape, external, what);
  }
  if (!proto.has_raw_data()) return FromTypedFields(proto, *dtype, shape, what);
  const std::shared_ptr<const std::string> raw(proto.release_raw_data());
  CheckSize(raw->size(), shape.elements() * SizeOf(*dtype), "bytes", shape, *dtype, what);
  const auto bytes = std::as_bytes(std::span(*raw));
  if (*dtype == DType::kBool) CheckBools(bytes, what);
  return BorrowOrCopy(*dtype, shape, bytes.data(), raw);
}

onnx::TensorProto MakeTensorProto(const TensorView& tensor) {
  onnx::TensorProto proto;
  proto.set_data_type(OnnxOfDType(tensor.dtype));
  for (int64_t d : tensor.shape.dims()) proto.add_dims(d);
  proto.set_raw_data(tensor.raw, static_cast<size_t>(tensor.bytes()));
  return proto;
}

}  // namespace octet
