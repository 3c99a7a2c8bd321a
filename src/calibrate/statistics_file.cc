// Statistics as named tensors, the content of a statistics file (safetensors). Metadata:
//   format    "octet.statistics"
//   version   "1"
//   identity  JSON object of strings
//   samples   JSON array of strings, sorted
// and five tensors for every value NAME of C channels:
//   NAME/about    int64  (2)        channel axis, or -1; number of NaN and infinite elements
//   NAME/extrema  float32 (2, C)    minima, maxima; infinity, -infinity for a channel without
//                 elements
//   NAME/sums     uint64 (2, C, 4)  sums, sums of squares, in the words of numerics/fixed_sum.h
//   NAME/bins     uint16 (n)        top 16 bits of the float32 pattern, ascending, where the count
//                 is not 0
//   NAME/counts   uint64 (n)        elements in these bins
// The form is canonical: equal statistics are equal bytes, and reading refuses every other form.
#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/checked_math.h"
#include "base/error.h"
#include "calibrate/pattern_bins.h"
#include "calibrate/statistics.h"

namespace octet {
namespace {

constexpr std::string_view kFormat = "octet.statistics";
constexpr std::string_view kVersion = "1";
constexpr std::string_view kSuffixes[] = {"/about", "/extrema", "/sums", "/bins", "/counts"};

std::string Dump(const nlohmann::json& json) {
  try {
    return json.dump();
  } catch (const nlohmann::json::exception&) {
    Fail(ErrorCode::kInvalidArgument, "write statistics: identity or samples are not UTF-8");
  }
}

const std::string& Metadata(const NamedTensors& file, const char* key) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end()) {
    Fail(ErrorCode::kBadFile, "read statistics: no metadata '", key, "'; not a statistics file");
  }
  return found->second;
}

// The parsed metadata. Anything but what Dump writes is refused, so that no two texts mean the
// same.
nlohmann::json Canonical(const NamedTensors& file, const char* key) {
  const std::string& text = Metadata(file, key);
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  bool ok = !json.is_discarded() && json.dump() == text;
  if (ok) {
    for (const auto& item : json) ok = ok && item.is_string();
  }
  if (!ok) Fail(ErrorCode::kBadFile, "read statistics: metadata '", key, "' is malformed");
  return json;
}

template <typename T>
std::span<const T> Find(const NamedTensors& file, const std::string& name, int rank) {
  const auto found = file.tensors.find(name);
  if (found == file.tensors.end()) {
    Fail(ErrorCode::kBadFile, "read statistics: no tensor '", name, "'");
  }
  const Tensor& tensor = found->second;
  if (tensor.dtype() != DTypeOf<T>() || tensor.shape().rank() != rank) {
    Fail(ErrorCode::kBadFile, "read statistics: tensor '", name, "' is ", NameOf(tensor.dtype()),
         " ", tensor.shape(), "; expected ", NameOf(DTypeOf<T>()), " of rank ", rank);
  }
  return tensor.data<T>();
}

// The words that FixedSum can reach, with room to merge: saturated, or within 2^254.
FixedSum CheckedSum(std::span<const uint64_t> words, const std::string& name) {
  const FixedSum sum = FixedSum::FromWords({words[0], words[1], words[2], words[3]});
  const uint64_t sign = words[3] >> 62;
  if (!sum.saturated() && sign != 0 && sign != 3) {
    Fail(ErrorCode::kBadFile, "read statistics: tensor '", name, "/sums' holds a sum out of range");
  }
  return sum;
}

}  // namespace

NamedTensors Statistics::ToTensors() const {
  NamedTensors file;
  file.metadata["format"] = kFormat;
  file.metadata["version"] = kVersion;
  file.metadata["identity"] = Dump(nlohmann::json(identity));
  file.metadata["samples"] = Dump(nlohmann::json(samples_));
  for (const auto& [name, value] : values_) {
    const int64_t channels = value.channels();
    const auto n = static_cast<size_t>(channels);
    file.tensors[name + "/about"] = Tensor::Of<int64_t>(
        Shape{2}, {value.channel_axis_, static_cast<int64_t>(value.non_finite_)});

    Tensor extrema(DType::kFloat32, Shape{2, channels});
    const auto extrema_data = extrema.mutable_data<float>();
    std::copy(value.minimum_.begin(), value.minimum_.end(), extrema_data.begin());
    std::copy(value.maximum_.begin(), value.maximum_.end(), extrema_data.subspan(n).begin());
    file.tensors[name + "/extrema"] = std::move(extrema);

    Tensor sums(DType::kUint64, Shape{2, channels, 4});
    auto out = sums.mutable_data<uint64_t>().begin();
    for (const auto* row : {&value.sum_, &value.sum_sq_}) {
      for (const FixedSum& sum : *row) out = std::copy(sum.words().begin(), sum.words().end(), out);
    }
    file.tensors[name + "/sums"] = std::move(sums);

    const auto entries = value.histogram_.NonZero();
    const Shape shape{static_cast<int64_t>(entries.size())};
    Tensor bins(DType::kUint16, shape);
    Tensor counts(DType::kUint64, shape);
    for (size_t i = 0; i < entries.size(); ++i) {
      bins.mutable_data<uint16_t>()[i] = entries[i].bin;
      counts.mutable_data<uint64_t>()[i] = entries[i].count;
    }
    file.tensors[name + "/bins"] = std::move(bins);
    file.tensors[name + "/counts"] = std::move(counts);
  }
  return file;
}

Statistics Statistics::FromTensors(const NamedTensors& file) {
  if (Metadata(file, "format") != kFormat || Metadata(file, "version") != kVersion) {
    Fail(ErrorCode::kBadFile, "read statistics: format '", Metadata(file, "format"), "' version '",
         Metadata(file, "version"), "'; expected '", kFormat, "' version '", kVersion, "'");
  }
  Statistics statistics;
  const nlohmann::json identity = Canonical(file, "identity");
  const nlohmann::json samples = Canonical(file, "samples");
  if (!identity.is_object() || !samples.is_array()) {
    Fail(ErrorCode::kBadFile, "read statistics: identity or samples are malformed");
  }
  statistics.identity = identity.get<std::map<std::string, std::string>>();
  statistics.samples_ = samples.get<std::vector<std::string>>();
  if (!std::is_sorted(statistics.samples_.begin(), statistics.samples_.end())) {
    Fail(ErrorCode::kBadFile, "read statistics: samples are not sorted");
  }

  std::vector<std::string> names;
  for (const auto& [tensor_name, unused] : file.tensors) {
    const auto slash = tensor_name.rfind('/');
    const std::string_view suffix = slash == std::string::npos
                                        ? std::string_view()
                                        : std::string_view(tensor_name).substr(slash);
    if (std::find(std::begin(kSuffixes), std::end(kSuffixes), suffix) == std::end(kSuffixes)) {
      Fail(ErrorCode::kBadFile, "read statistics: unexpected tensor '", tensor_name, "'");
    }
    if (suffix == kSuffixes[0]) names.push_back(tensor_name.substr(0, slash));
  }
  if (names.size() * std::size(kSuffixes) != file.tensors.size()) {
    Fail(ErrorCode::kBadFile, "read statistics: ", file.tensors.size(), " tensors for ",
         names.size(), " values; expected five each");
  }

  for (const std::string& name : names) {
    const auto bad = [&](const auto&... what) {
      Fail(ErrorCode::kBadFile, "read statistics: value '", name, "': ", what...);
    };
    const auto about = Find<int64_t>(file, name + "/about", 1);
    const auto extrema = Find<float>(file, name + "/extrema", 2);
    const auto sums = Find<uint64_t>(file, name + "/sums", 3);
    const auto bins = Find<uint16_t>(file, name + "/bins", 1);
    const auto counts = Find<uint64_t>(file, name + "/counts", 1);
    if (about.size() != 2 || about[0] < -1 || about[0] >= kMaxRank || about[1] < 0) {
      bad("axis or number of non-finite elements out of range");
    }
    const Shape& shape = file.tensors.at(name + "/extrema").shape();
    const int64_t channels = shape[1];
    if (shape[0] != 2 || file.tensors.at(name + "/sums").shape() != Shape{2, channels, 4} ||
        bins.size() != counts.size() || (about[0] == -1 && channels != 1)) {
      bad("tensors of shapes that do not fit together");
    }

    ValueStatistics value(static_cast<int>(about[0]), channels);
    value.non_finite_ = static_cast<uint64_t>(about[1]);
    std::optional<int64_t> elements = 0;
    for (size_t i = 0; i < bins.size(); ++i) {
      if (i > 0 && bins[i] <= bins[i - 1]) bad("bins are not ascending");
      if ((bins[i] & 0x7f80) == 0x7f80) bad("bin ", bins[i], " is not finite");
      if (counts[i] == 0 || counts[i] >> 62 != 0) bad("bin ", bins[i], " counts ", counts[i]);
      elements = CheckedAdd(*elements, static_cast<int64_t>(counts[i]));
      if (!elements) bad("the counts overflow");
      value.histogram_.Add(bins[i], counts[i]);
    }
    value.elements_ = static_cast<uint64_t>(*elements);
    const auto all = CheckedAdd(*elements, about[1]);
    if (!all || (channels == 0 ? *all != 0 : *all % channels != 0)) {
      bad(*elements, " finite and ", about[1], " other elements in ", channels, " channels");
    }

    const auto n = static_cast<size_t>(channels);
    for (size_t c = 0; c < n; ++c) {
      const float low = extrema[c];
      const float high = extrema[n + c];
      const bool empty = std::isinf(low) && std::isinf(high) && low > 0 && high < 0;
      const bool sound = std::isfinite(low) && std::isfinite(high) && low <= high &&
                         !(low == 0 && std::signbit(low)) && !(high == 0 && std::signbit(high));
      if (!empty && !sound) bad("channel ", c, " extends from ", low, " to ", high);
      if (empty && about[1] == 0 && *elements != 0) bad("channel ", c, " has no elements");
      value.minimum_[c] = low;
      value.maximum_[c] = high;
      value.sum_[c] = CheckedSum(sums.subspan(4 * c, 4), name);
      value.sum_sq_[c] = CheckedSum(sums.subspan(4 * (n + c), 4), name);
    }
    const float low = *elements == 0 ? 0 : value.min();
    const float high = *elements == 0 ? 0 : value.max();
    if (!std::isfinite(low) || !std::isfinite(high)) bad("elements but no extrema");
    if (*elements != 0) {
      const auto ordered = BinsByValue(value.histogram_);
      const PatternInterval first = IntervalOf(ordered.front().bin);
      const PatternInterval last = IntervalOf(ordered.back().bin);
      if (low < first.lo || low > first.hi || high < last.lo || high > last.hi) {
        bad("extrema ", low, " and ", high, " are not in the outermost bins");
      }
    }
    statistics.values_.emplace(name, std::move(value));
  }
  return statistics;
}

}  // namespace octet
