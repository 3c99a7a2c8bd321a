#include "files/preprocess.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace octet {
namespace {

constexpr int64_t kMaxSide = int64_t{1} << 20;  // of a size given in a flag

struct PresetRow {
  std::string_view name;
  Preprocess preprocess;
};

const std::vector<PresetRow>& Presets() {
  static const std::vector<PresetRow> rows = [] {
    Preprocess unit;
    unit.scale = 1.0 / 255.0;
    Preprocess torch = unit;
    torch.resize = ResizeMode::kShorterSide;
    torch.resize_width = 256;
    torch.crop_width = torch.crop_height = 224;
    torch.mean = {0.485, 0.456, 0.406};
    torch.std = {0.229, 0.224, 0.225};
    Preprocess tf;  // x / 127.5 − 1, as (x − 127.5) / 127.5
    tf.resize = ResizeMode::kModelInput;
    tf.mean.fill(127.5);
    tf.std.fill(127.5);
    return std::vector<PresetRow>{
        {"none", {}}, {"unit", unit}, {"imagenet-torch", torch}, {"imagenet-tf", tf}};
  }();
  return rows;
}

std::string_view NameOf(ResizeMode mode) {
  switch (mode) {
    case ResizeMode::kNone:
      return "none";
    case ResizeMode::kShorterSide:
      return "shorter-side";
    case ResizeMode::kExact:
      return "exact";
    case ResizeMode::kModelInput:
      return "input";
  }
  return "?";
}

std::string_view NameOf(ChannelOrder order) {
  switch (order) {
    case ChannelOrder::kRgb:
      return "rgb";
    case ChannelOrder::kBgr:
      return "bgr";
    case ChannelOrder::kGray:
      return "gray";
  }
  return "?";
}

std::string_view NameOf(ImageLayout layout) {
  switch (layout) {
    case ImageLayout::kAuto:
      return "auto";
    case ImageLayout::kNchw:
      return "nchw";
    case ImageLayout::kNhwc:
      return "nhwc";
  }
  return "?";
}

template <typename Enum>
Enum ParseName(std::string_view flag, std::string_view text, std::initializer_list<Enum> values) {
  std::string choices;
  for (Enum v : values) {
    if (NameOf(v) == text) return v;
    choices += Cat(choices.empty() ? "" : ", ", NameOf(v));
  }
  Fail(ErrorCode::kInvalidArgument, flag, " '", text, "': expected one of ", choices);
}

// The whole text as a finite number.
std::optional<double> Number(std::string_view text) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

struct Size {
  int64_t width = 0;
  std::optional<int64_t> height;
};

// "224" or "320x240".
std::optional<Size> ParseSize(std::string_view text) {
  const auto side = [](std::string_view digits) -> std::optional<int64_t> {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    if (value < 1 || value > kMaxSide) return std::nullopt;
    return value;
  };
  const size_t x = text.find('x');
  const auto width = side(text.substr(0, x));
  if (!width) return std::nullopt;
  if (x == std::string_view::npos) return Size{*width, std::nullopt};
  const auto height = side(text.substr(x + 1));
  if (!height) return std::nullopt;
  return Size{*width, height};
}

// One number for all channels, or three.
std::array<double, 3> ParseChannels(std::string_view flag, std::string_view text) {
  std::vector<double> values;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const auto value = Number(text.substr(at, comma - at));
    if (!value) {
      values.clear();
      break;
    }
    values.push_back(*value);
    at = comma + 1;
  }
  if (values.size() == 1) return {values[0], values[0], values[0]};
  if (values.size() == 3) return {values[0], values[1], values[2]};
  Fail(ErrorCode::kInvalidArgument, flag, " '", text,
       "': expected one number or three, as 127 or 0.485,0.456,0.406");
}

double ParseScale(std::string_view text) {
  const size_t slash = text.find('/');
  const auto top = Number(text.substr(0, slash));
  const auto bottom = slash == std::string_view::npos ? 1.0 : Number(text.substr(slash + 1));
  if (!top || !bottom || *top == 0.0 || *bottom == 0.0) {
    Fail(ErrorCode::kInvalidArgument, "--scale '", text,
         "': expected a number other than 0, as 0.5 or 1/255");
  }
  return *top / *bottom;
}

void ParseResize(std::string_view text, Preprocess& p) {
  p.resize_width = p.resize_height = 0;
  if (text == "none" || text == "input") {
    p.resize = text == "none" ? ResizeMode::kNone : ResizeMode::kModelInput;
    return;
  }
  const auto size = ParseSize(text);
  if (!size) {
    Fail(ErrorCode::kInvalidArgument, "--resize '", text,
         "': expected the shorter side (256), width x height (320x240), input or none");
  }
  p.resize = size->height ? ResizeMode::kExact : ResizeMode::kShorterSide;
  p.resize_width = size->width;
  p.resize_height = size->height.value_or(0);
}

void ParseCrop(std::string_view text, Preprocess& p) {
  p.crop_width = p.crop_height = 0;
  if (text == "none") return;
  const auto size = ParseSize(text);
  if (!size) {
    Fail(ErrorCode::kInvalidArgument, "--crop '", text,
         "': expected a side (224), width x height (320x240) or none");
  }
  p.crop_width = size->width;
  p.crop_height = size->height.value_or(size->width);
}

// ---- Resizing: Pillow's Resample.c for 8-bit channels.

constexpr int kPrecisionBits =
    32 - 8 - 2;  // of a coefficient: 8 bits of pixel, 2 bits of overshoot left

struct Taps {
  std::vector<int64_t> first;  // by output place: first input place that counts
  std::vector<int64_t> count;
  std::vector<int32_t> weights;  // fixed point, `stride` per output place
  size_t stride = 0;
};

// The triangle filter, widened by the reduction factor where the image gets smaller.
Taps TriangleTaps(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter_scale;
  Taps taps;
  taps.stride = static_cast<size_t>(std::ceil(support)) * 2 + 1;
  taps.first.resize(static_cast<size_t>(out));
  taps.count.resize(static_cast<size_t>(out));
  taps.weights.assign(static_cast<size_t>(out) * taps.stride, 0);
  std::vector<double> k(taps.stride);
  for (int64_t o = 0; o < out; ++o) {
    const double center = (static_cast<double>(o) + 0.5) * scale;
    const auto first = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const auto last = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), in);
    const auto count = static_cast<size_t>(last - first);
    double sum = 0.0;
    for (size_t i = 0; i < count; ++i) {
      const double x = (static_cast<double>(static_cast<int64_t>(i) + first) - center + 0.5) *
                       (1.0 / filter_scale);
      k[i] = std::max(0.0, 1.0 - std::fabs(x));
      sum += k[i];
    }
    for (size_t i = 0; i < count; ++i) {
      const double w = sum != 0.0 ? k[i] / sum : k[i];
      taps.weights[static_cast<size_t>(o) * taps.stride + i] =
          static_cast<int32_t>(0.5 + w * (1 << kPrecisionBits));
    }
    taps.first[static_cast<size_t>(o)] = first;
    taps.count[static_cast<size_t>(o)] = static_cast<int64_t>(count);
  }
  return taps;
}

// One pass along an axis. The image is seen as (outer, axis, inner) bytes: inner is 3 for a row, 3
// · width for a column. Weights are >= 0 and sum to 1 within rounding: sums stay below 2^31.
std::vector<uint8_t> ResampleAxis(const std::vector<uint8_t>& in, int64_t outer, int64_t in_axis,
                                  int64_t out_axis, int64_t inner) {
  const Taps taps = TriangleTaps(in_axis, out_axis);
  std::vector<uint8_t> out(static_cast<size_t>(outer * out_axis * inner));
  std::vector<int32_t> sums(static_cast<size_t>(inner));
  for (int64_t b = 0; b < outer; ++b) {
    for (int64_t o = 0; o < out_axis; ++o) {
      std::fill(sums.begin(), sums.end(), 1 << (kPrecisionBits - 1));
      for (int64_t i = 0; i < taps.count[static_cast<size_t>(o)]; ++i) {
        const int32_t w =
            taps.weights[static_cast<size_t>(o) * taps.stride + static_cast<size_t>(i)];
        const uint8_t* from =
            in.data() + (b * in_axis + taps.first[static_cast<size_t>(o)] + i) * inner;
        for (size_t c = 0; c < sums.size(); ++c) sums[c] += from[c] * w;
      }
      uint8_t* to = out.data() + (b * out_axis + o) * inner;
      for (size_t c = 0; c < sums.size(); ++c) {
        to[c] = static_cast<uint8_t>(std::clamp(sums[c] >> kPrecisionBits, 0, 255));
      }
    }
  }
  return out;
}

// Half of the margin, ties to even: Python's round(), which torchvision's center_crop uses.
int64_t HalfMargin(int64_t outer, int64_t inner) {
  return static_cast<int64_t>(std::nearbyint(static_cast<double>(outer - inner) / 2.0));
}

}  // namespace

bool Preprocess::is_identity() const {
  const Preprocess none;
  return resize == ResizeMode::kNone && crop_width == 0 && scale == 1.0 && mean == none.mean &&
         std == none.std;
}

std::string Preprocess::ToJson() const {
  nlohmann::ordered_json j;
  j["resize"] = NameOf(resize);
  if (resize == ResizeMode::kShorterSide) j["resize_side"] = resize_width;
  if (resize == ResizeMode::kExact) j["resize_size"] = {resize_width, resize_height};
  if (crop_width > 0) j["crop"] = {crop_width, crop_height};
  j["scale"] = scale;
  j["mean"] = mean;
  j["std"] = std;
  j["order"] = NameOf(order);
  j["layout"] = NameOf(layout);
  return j.dump();
}

Preprocess ParsePreset(std::string_view name) {
  std::string names;
  for (const auto& row : Presets()) {
    if (row.name == name) return row.preprocess;
    names += Cat(names.empty() ? "" : ", ", row.name);
  }
  Fail(ErrorCode::kInvalidArgument, "unknown preset '", name, "'; expected one of ", names);
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const auto& row : Presets()) names.emplace_back(row.name);
  return names;
}

Preprocess MakePreprocess(const PreprocessFlags& flags) {
  Preprocess p = ParsePreset(flags.preset.empty() ? "none" : flags.preset);
  if (!flags.resize.empty()) ParseResize(flags.resize, p);
  if (!flags.crop.empty()) ParseCrop(flags.crop, p);
  if (!flags.mean.empty()) p.mean = ParseChannels("--mean", flags.mean);
  if (!flags.std.empty()) {
    p.std = ParseChannels("--std", flags.std);
    if (std::count(p.std.begin(), p.std.end(), 0.0) > 0) {
      Fail(ErrorCode::kInvalidArgument, "--std '", flags.std, "': a deviation of 0");
    }
  }
  if (!flags.scale.empty()) p.scale = ParseScale(flags.scale);
  if (!flags.order.empty()) {
    p.order = ParseName("--order", flags.order,
                        {ChannelOrder::kRgb, ChannelOrder::kBgr, ChannelOrder::kGray});
  }
  if (!flags.layout.empty()) {
    p.layout = ParseName("--layout", flags.layout,
                         {ImageLayout::kAuto, ImageLayout::kNchw, ImageLayout::kNhwc});
  }
  return p;
}

Image ResizeBilinear(const Image& image, int64_t width, int64_t height) {
  OCTET_INVARIANT(width >= 1 && height >= 1);
  // The image between the passes is (image.height, width): a thin one can be far larger than both
  // ends.
  if (width > kMaxImagePixels || std::max(height, image.height) > kMaxImagePixels / width) {
    Fail(ErrorCode::kUnsupported, "resizing an image of ", image.width, " x ", image.height, " to ",
         width, " x ", height, ": more than ", kMaxImagePixels, " pixels on the way");
  }
  Image out{.width = width, .height = height, .rgb = {}};
  const bool across = width != image.width;
  if (across) out.rgb = ResampleAxis(image.rgb, image.height, image.width, width, kImageChannels);
  const std::vector<uint8_t>& rows = across ? out.rgb : image.rgb;
  if (height != image.height) {
    out.rgb = ResampleAxis(rows, 1, image.height, height, width * kImageChannels);
  } else if (!across) {
    out.rgb = image.rgb;
  }
  return out;
}

Image CenterCrop(const Image& image, int64_t width, int64_t height) {
  OCTET_INVARIANT(width >= 1 && height >= 1 && width <= image.width && height <= image.height);
  Image out{.width = width, .height = height, .rgb = {}};
  const int64_t left = HalfMargin(image.width, width);
  const int64_t top = HalfMargin(image.height, height);
  for (int64_t y = 0; y < height; ++y) {
    const auto row = image.rgb.begin() + ((top + y) * image.width + left) * kImageChannels;
    out.rgb.insert(out.rgb.end(), row, row + width * kImageChannels);
  }
  return out;
}

Image FitImage(const Image& image, const Preprocess& p, int64_t model_height, int64_t model_width,
               std::string_view name) {
  const auto fits = [&](const Image& i) {
    return (model_width < 0 || i.width == model_width) &&
           (model_height < 0 || i.height == model_height);
  };
  if (model_width >= 0 && model_height >= 0 && fits(image)) return image;
  int64_t width = image.width, height = image.height;
  switch (p.resize) {
    case ResizeMode::kNone:
      break;
    case ResizeMode::kShorterSide: {
      const int64_t shorter = std::min(image.width, image.height);
      const int64_t longer = std::max(image.width, image.height);
      const int64_t scaled = p.resize_width * longer / shorter;
      width = image.width <= image.height ? p.resize_width : scaled;
      height = image.width <= image.height ? scaled : p.resize_width;
      break;
    }
    case ResizeMode::kExact:
      width = p.resize_width;
      height = p.resize_height;
      break;
    case ResizeMode::kModelInput:
      if (model_width < 1 || model_height < 1) {
        Fail(ErrorCode::kBadData, "image '", name,
             "': cannot be resized to the model's input, whose height and width are not fixed; "
             "give --resize WxH");
      }
      width = model_width;
      height = model_height;
      break;
  }
  Image out = ResizeBilinear(image, width, height);
  if (p.crop_width > 0) {
    if (p.crop_width > out.width || p.crop_height > out.height) {
      Fail(ErrorCode::kBadData, "image '", name, "': ", out.width, " x ", out.height,
           " pixels cannot be cropped to ", p.crop_width, " x ", p.crop_height, "; resize first");
    }
    out = CenterCrop(out, p.crop_width, p.crop_height);
  }
  if (!fits(out)) {
    const auto side = [](int64_t n) { return n < 0 ? std::string("any") : std::to_string(n); };
    Fail(ErrorCode::kBadData, "image '", name, "': ", image.width, " x ", image.height,
         " pixels become ", out.width, " x ", out.height, "; the model takes ", side(model_width),
         " x ", side(model_height),
         " (width x height); give --resize and --crop, or --resize input");
  }
  return out;
}

ImageInput ReadImageInput(const Preprocess& p, const InputSpec& input) {
  const int64_t channels = p.order == ChannelOrder::kGray ? 1 : kImageChannels;
  const auto& d = input.dims;
  if (d.size() == 4) {
    const auto may_be = [&](size_t axis) { return d[axis] == channels || d[axis] < 0; };
    const bool nchw = p.layout == ImageLayout::kNchw ||
                      (p.layout == ImageLayout::kAuto && (d[1] == channels || d[3] != channels));
    if (may_be(nchw ? 1 : 3)) {
      return nchw ? ImageInput{true, channels, d[2], d[3]}
                  : ImageInput{false, channels, d[1], d[2]};
    }
  }
  std::string shape;
  for (int64_t n : d) shape += Cat(shape.empty() ? "" : ",", n);
  Fail(ErrorCode::kBadData, "input '", input.name, "' of shape [", shape,
       "] takes no images: expected [N,", channels, ",H,W] or [N,H,W,", channels,
       "] (channel order ", NameOf(p.order), ", layout ", NameOf(p.layout), ")");
}

namespace {

// Pillow's integer luma (ITU-R 601-2), rounded.
uint8_t Luma(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

// Channel c of a pixel in the order asked for.
uint8_t ChannelOf(const uint8_t* rgb, int64_t c, ChannelOrder order) {
  if (order == ChannelOrder::kGray) return Luma(rgb);
  return rgb[order == ChannelOrder::kBgr ? 2 - c : c];
}

// Fills (C,H,W) or (H,W,C) with table[channel][code].
template <typename T>
void Spread(const Image& image, const ImageInput& input, ChannelOrder order,
            const std::array<std::array<T, 256>, 3>& table, std::span<T> out) {
  const auto pixels = static_cast<size_t>(image.width * image.height);
  const auto channels = static_cast<size_t>(input.channels);
  for (size_t i = 0; i < pixels; ++i) {
    for (size_t c = 0; c < channels; ++c) {
      const uint8_t code =
          ChannelOf(image.rgb.data() + i * kImageChannels, static_cast<int64_t>(c), order);
      out[input.nchw ? c * pixels + i : i * channels + c] = table[c][code];
    }
  }
}

}  // namespace

Tensor ImageToTensor(const Image& image, const Preprocess& p, const InputSpec& input,
                     std::string_view name) {
  const ImageInput place = ReadImageInput(p, input);
  const Image fitted = FitImage(image, p, place.height, place.width, name);
  const Shape shape = place.nchw ? Shape{1, place.channels, fitted.height, fitted.width}
                                 : Shape{1, fitted.height, fitted.width, place.channels};
  Preprocess values = p;
  values.resize = ResizeMode::kNone;
  values.crop_width = 0;
  Tensor out(input.dtype, shape);
  if (input.dtype == DType::kFloat32) {
    std::array<std::array<float, 256>, 3> table{};
    for (size_t c = 0; c < 3; ++c) {
      for (size_t code = 0; code < 256; ++code) {
        table[c][code] =
            static_cast<float>((static_cast<double>(code) * p.scale - p.mean[c]) / p.std[c]);
      }
    }
    Spread(fitted, place, p.order, table, out.mutable_data<float>());
  } else if (input.dtype == DType::kUint8 && values.is_identity()) {
    std::array<std::array<uint8_t, 256>, 3> table{};
    for (auto& row : table) {
      for (size_t code = 0; code < 256; ++code) row[code] = static_cast<uint8_t>(code);
    }
    Spread(fitted, place, p.order, table, out.mutable_data<uint8_t>());
  } else {
    Fail(
        ErrorCode::kBadData, "input '", input.name, "' is ", NameOf(input.dtype),
        ": images can be given to float32 inputs, and to uint8 inputs without scale, mean and std");
  }
  return out;
}

}  // namespace octet
