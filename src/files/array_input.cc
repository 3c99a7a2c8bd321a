// From a stored array to what a model input takes: element types, shapes, normalization.
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "files/dataset_source.h"

namespace octet {
namespace {

// IEEE binary16 bits to float32: exact.
float FromHalf(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 31u;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {  // zero and denormals: mantissa · 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 255u : exponent + (127 - 15);
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

float FromBFloat16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

template <typename To, typename From, typename Convert>
void Each(const TensorView& in, Tensor& out, const Convert& convert) {
  const auto* from = static_cast<const From*>(in.raw);
  auto to = out.mutable_data<To>();
  for (size_t i = 0; i < to.size(); ++i) to[i] = convert(from[i]);
}

// Calls f with a value of the C++ type; false for the types without one.
template <typename F>
bool WithIntegerType(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kInt8:
      f(int8_t{});
      return true;
    case DType::kUint8:
      f(uint8_t{});
      return true;
    case DType::kInt16:
      f(int16_t{});
      return true;
    case DType::kUint16:
      f(uint16_t{});
      return true;
    case DType::kInt32:
      f(int32_t{});
      return true;
    case DType::kUint32:
      f(uint32_t{});
      return true;
    case DType::kInt64:
      f(int64_t{});
      return true;
    case DType::kUint64:
      f(uint64_t{});
      return true;
    default:
      return false;
  }
}

bool Convertible(DType from, DType to) {
  if (from == to) return true;
  if (to == DType::kFloat32) {
    return IsInteger(from) || from == DType::kBool || from == DType::kFloat64 ||
           from == DType::kFloat16 || from == DType::kBFloat16;
  }
  return IsInteger(from) && IsInteger(to);
}

void ToFloat32(const TensorView& in, Tensor& out) {
  const auto cast = [](auto v) { return static_cast<float>(v); };
  if (WithIntegerType(in.dtype, [&](auto zero) { Each<float, decltype(zero)>(in, out, cast); }))
    return;
  switch (in.dtype) {
    case DType::kBool:
      return Each<float, bool>(in, out, cast);
    case DType::kFloat64:
      return Each<float, double>(in, out, cast);
    case DType::kFloat16:
      return Each<float, uint16_t>(in, out, FromHalf);
    case DType::kBFloat16:
      return Each<float, uint16_t>(in, out, FromBFloat16);
    default:
      OCTET_INVARIANT(false);
  }
}

// Integers keep their value or are refused.
void ToInteger(const TensorView& in, Tensor& out, const InputSpec& input, std::string_view name) {
  WithIntegerType(in.dtype, [&](auto in_zero) {
    WithIntegerType(out.dtype(), [&](auto out_zero) {
      using From = decltype(in_zero);
      using To = decltype(out_zero);
      Each<To, From>(in, out, [&](From v) {
        if (!std::in_range<To>(v)) {
          Fail(ErrorCode::kBadData, "sample '", name, "', input '", input.name, "': the value ", +v,
               " does not fit ", NameOf(input.dtype));
        }
        return static_cast<To>(v);
      });
    });
  });
}

std::string ToText(const std::vector<int64_t>& dims) {
  std::string s;
  for (int64_t d : dims)
    s += Cat(s.empty() ? "" : ",", d < 0 ? std::string("?") : std::to_string(d));
  return "[" + s + "]";
}

// The batch dimension is not compared: a row has 1 there.
bool ShapeFits(const Shape& row, const InputSpec& input) {
  if (row.rank() != static_cast<int>(input.dims.size())) return false;
  for (int i = 1; i < row.rank(); ++i) {
    const int64_t d = input.dims[static_cast<size_t>(i)];
    if (d >= 0 && d != row[i]) return false;
  }
  return true;
}

// A uint8 row [1,H,W,3] for a rank-4 input, unless it already is [1,3,H,3] for [N,3,H,3].
bool IsStoredImage(DType dtype, const Shape& row, const InputSpec& input) {
  return dtype == DType::kUint8 && row.rank() == 4 && row[3] == kImageChannels &&
         input.dims.size() == 4 &&
         (input.dtype == DType::kFloat32 || input.dtype == DType::kUint8) &&
         !(row[1] == kImageChannels && ShapeFits(row, input));
}

bool HasValueMap(const Preprocess& p) {
  Preprocess values = p;
  values.resize = ResizeMode::kNone;
  values.crop_width = 0;
  return !values.is_identity();
}

bool IsUniform(const Preprocess& p) {
  return p.mean[0] == p.mean[1] && p.mean[1] == p.mean[2] && p.std[0] == p.std[1] &&
         p.std[1] == p.std[2];
}

void Normalize(Tensor& tensor, const Preprocess& p, const InputSpec& input) {
  int64_t channels = 1, inner = tensor.elements();
  if (!IsUniform(p)) {
    const ImageInput place = ReadImageInput(p, input);
    channels = place.channels;
    inner = place.nchw ? tensor.shape()[2] * tensor.shape()[3] : 1;
  }
  auto values = tensor.mutable_data<float>();
  for (size_t i = 0; i < values.size(); ++i) {
    const auto c =
        inner == 0 ? size_t{0} : i / static_cast<size_t>(inner) % static_cast<size_t>(channels);
    values[i] =
        static_cast<float>((static_cast<double>(values[i]) * p.scale - p.mean[c]) / p.std[c]);
  }
}

}  // namespace

void CheckArrayFits(DType dtype, const Shape& row, const Preprocess& p, const InputSpec& input,
                    std::string_view name) {
  const auto bad = [&](const auto&... what) {
    Fail(ErrorCode::kBadData, "data '", name, "', input '", input.name, "': ", what...);
  };
  if (IsStoredImage(dtype, row, input)) {
    static_cast<void>(ReadImageInput(p, input));
    return;
  }
  if (!Convertible(dtype, input.dtype)) {
    bad("the data are ", NameOf(dtype), ", the input takes ", NameOf(input.dtype));
  }
  if (!ShapeFits(row, input)) {
    bad("one sample has the shape ", row, ", the input takes ", ToText(input.dims));
  }
  if (p.resize != ResizeMode::kNone || p.crop_width > 0) {
    // Where the input's size is fixed, data that fit it need no resizing, as with images.
    if (input.dims.size() != 4)
      bad("resize and crop apply to images; the input takes ", ToText(input.dims));
    const ImageInput place = ReadImageInput(p, input);
    if (place.height < 0 || place.width < 0)
      bad("resize and crop apply to image files and uint8 [N,H,W,3] only");
  }
  if (HasValueMap(p)) {
    if (input.dtype != DType::kFloat32)
      bad("scale, mean and std apply to float32 inputs; this takes ", NameOf(input.dtype));
    if (!IsUniform(p)) static_cast<void>(ReadImageInput(p, input));
  }
  if (p.order == ChannelOrder::kBgr)
    bad("the channel order bgr applies to image files and uint8 [N,H,W,3] only");
}

Tensor ArrayToInput(const TensorView& row, const Preprocess& p, const InputSpec& input,
                    std::string_view name) {
  CheckArrayFits(row.dtype, row.shape, p, input, name);
  if (IsStoredImage(row.dtype, row.shape, input)) {
    const auto pixels = row.data<uint8_t>();
    const Image image{
        .width = row.shape[2], .height = row.shape[1], .rgb = {pixels.begin(), pixels.end()}};
    if (pixels.empty()) Fail(ErrorCode::kBadData, "sample '", name, "': an image without pixels");
    return ImageToTensor(image, p, input, name);
  }
  Tensor out(input.dtype, row.shape);
  if (row.dtype == input.dtype) {
    if (out.bytes() > 0) std::memcpy(out.mutable_raw(), row.raw, static_cast<size_t>(out.bytes()));
  } else if (input.dtype == DType::kFloat32) {
    ToFloat32(row, out);
  } else {
    ToInteger(row, out, input, name);
  }
  if (HasValueMap(p)) Normalize(out, p, input);
  return out;
}

}  // namespace octet
