#include "files/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/checked_math.h"
#include "base/file.h"

namespace octet {
namespace {

using nlohmann::json;

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the original implementation
constexpr size_t kAlignment = 8;
constexpr int kMaxDepth = 3;  // header, tensor entry, list of numbers

struct TypeRow {
  DType dtype;
  std::string_view code;
};
constexpr TypeRow kTypes[] = {
    {DType::kBool, "BOOL"},
    {DType::kInt8, "I8"},
    {DType::kUint8, "U8"},
    {DType::kInt16, "I16"},
    {DType::kUint16, "U16"},
    {DType::kInt32, "I32"},
    {DType::kUint32, "U32"},
    {DType::kInt64, "I64"},
    {DType::kUint64, "U64"},
    {DType::kFloat16, "F16"},
    {DType::kBFloat16, "BF16"},
    {DType::kFloat32, "F32"},
    {DType::kFloat64, "F64"},
    {DType::kFloat8E4M3Fn, "F8_E4M3"},
    {DType::kFloat8E5M2, "F8_E5M2"},
    {DType::kFloat8E4M3FnUz, "F8_E4M3FNUZ"},
    {DType::kFloat8E5M2FnUz, "F8_E5M2FNUZ"},
};

DType TypeOfCode(std::string_view code) {
  for (const auto& row : kTypes) {
    if (row.code == code) return row.dtype;
  }
  return DType::kUndefined;
}

std::string_view CodeOf(DType dtype) {
  for (const auto& row : kTypes) {
    if (row.dtype == dtype) return row.code;
  }
  Fail(ErrorCode::kUnsupported, "safetensors has no element type ", NameOf(dtype));
}

json ParseHeader(std::string_view text, std::string_view name) {
  // nlohmann keeps the last of two equal keys; a file with two is refused instead.
  std::vector<std::set<std::string>> keys;
  const json::parser_callback_t check = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxDepth)
      Fail(ErrorCode::kBadFile, "safetensors '", name, "': a header nested too deep");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      Fail(ErrorCode::kBadFile, "safetensors '", name, "': two entries '", value.get<std::string>(),
           "'");
    }
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& e) {
    Fail(ErrorCode::kBadFile, "safetensors '", name, "': the header is no JSON: ", e.what());
  }
}

struct Entry {
  std::string name;
  DType dtype = DType::kUndefined;
  std::vector<int64_t> shape;
  int64_t begin = 0;
  int64_t end = 0;
};

// A list of integers in [0, 2^63).
std::vector<int64_t> Numbers(const json& value, std::string_view file, std::string_view tensor,
                             std::string_view what) {
  bool good = value.is_array();
  std::vector<int64_t> out;
  for (size_t i = 0; good && i < value.size(); ++i) {
    good = value[i].is_number_unsigned() &&
           value[i].get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    if (good) out.push_back(value[i].get<int64_t>());
  }
  if (!good) {
    Fail(ErrorCode::kBadFile, "safetensors '", file, "': tensor '", tensor, "': ", what,
         " is no list of integers from 0 on");
  }
  return out;
}

Entry ParseEntry(const std::string& tensor, const json& value, std::string_view file) {
  const auto bad = [&](const auto&... what) {
    Fail(ErrorCode::kBadFile, "safetensors '", file, "': tensor '", tensor, "': ", what...);
  };
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets") || !value["dtype"].is_string()) {
    bad("expected {dtype, shape, data_offsets}");
  }
  Entry entry;
  entry.name = tensor;
  const auto code = value["dtype"].get<std::string>();
  entry.dtype = TypeOfCode(code);
  if (entry.dtype == DType::kUndefined) {
    Fail(ErrorCode::kUnsupported, "safetensors '", file, "': tensor '", tensor, "': element type '",
         code, "'");
  }
  entry.shape = Numbers(value["shape"], file, tensor, "shape");
  if (entry.shape.size() > kMaxRank) {
    Fail(ErrorCode::kUnsupported, "safetensors '", file, "': tensor '", tensor, "': rank ",
         entry.shape.size(), "; the most is ", kMaxRank);
  }
  const auto offsets = Numbers(value["data_offsets"], file, tensor, "data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1]) bad("data_offsets is no [begin, end]");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  const auto elements = CheckedProduct(entry.shape);
  const auto bytes = elements ? CheckedMul(*elements, SizeOf(entry.dtype)) : std::nullopt;
  if (!bytes || *bytes != entry.end - entry.begin) {
    bad("data_offsets span ", entry.end - entry.begin, " bytes; shape and type take ",
        bytes ? std::to_string(*bytes) : std::string("more than 2^63"));
  }
  return entry;
}

}  // namespace

NamedTensors ParseSafetensors(std::span<const std::byte> bytes, std::string_view name,
                              std::shared_ptr<const void> owner) {
  const auto bad = [&](const auto&... what) {
    Fail(ErrorCode::kBadFile, "safetensors '", name, "': ", what...);
  };
  if (bytes.size() < kLengthBytes) bad("only ", bytes.size(), " bytes");
  uint64_t header_bytes = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    header_bytes |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  }
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - kLengthBytes) {
    bad("a header of ", header_bytes, " bytes in a file of ", bytes.size());
  }
  const auto header_size = static_cast<size_t>(header_bytes);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes,
                              header_size);
  const auto data = bytes.subspan(kLengthBytes + header_size);
  const json header = ParseHeader(text, name);
  if (!header.is_object()) bad("the header is no JSON object");

  NamedTensors result;
  std::vector<Entry> entries;
  for (const auto& [key, value] : header.items()) {
    if (key != "__metadata__") {
      entries.push_back(ParseEntry(key, value, name));
      continue;
    }
    if (!value.is_object()) bad("__metadata__ is no object");
    for (const auto& [meta_key, meta] : value.items()) {
      if (!meta.is_string()) bad("__metadata__: '", meta_key, "' is no string");
      result.metadata[meta_key] = meta.get<std::string>();
    }
  }
  // In the order of their places tensors follow each other without holes, from 0 to the end of the
  // file.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t at = 0;
  for (const auto& entry : entries) {
    if (entry.begin != at) {
      bad("tensor '", entry.name, "' begins at ", entry.begin, " of the data; expected ", at,
          " (tensors overlap or leave a hole)");
    }
    at = entry.end;
  }
  if (static_cast<uint64_t>(at) != data.size()) {
    bad("the tensors take ", at, " bytes; the file holds ", data.size(),
        " (cut short, or bytes left over)");
  }
  for (const auto& entry : entries) {
    const Shape shape(entry.shape);
    const std::byte* place = data.data() + entry.begin;
    if (entry.dtype == DType::kBool) {
      const auto values =
          data.subspan(static_cast<size_t>(entry.begin), static_cast<size_t>(shape.elements()));
      if (std::any_of(values.begin(), values.end(), [](std::byte b) { return b > std::byte{1}; })) {
        bad("tensor '", entry.name, "': a bool that is neither 0 nor 1");
      }
    }
    const bool aligned =
        reinterpret_cast<uintptr_t>(place) % static_cast<uintptr_t>(SizeOf(entry.dtype)) == 0;
    result.tensors.emplace(entry.name, aligned ? Tensor::Borrow(entry.dtype, shape, place, owner)
                                               : Tensor::CopyOf({entry.dtype, shape, place}));
  }
  return result;
}

NamedTensors ReadSafetensors(const std::filesystem::path& path) {
  auto file = std::make_shared<MappedFile>(path);
  const auto bytes = file->bytes();
  return ParseSafetensors(bytes, path.string(), std::move(file));
}

void WriteSafetensors(const std::filesystem::path& path, const NamedTensors& tensors) {
  std::vector<std::pair<const std::string*, const Tensor*>> order;
  for (const auto& [name, tensor] : tensors.tensors) order.emplace_back(&name, &tensor);
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return SizeOf(a.second->dtype()) > SizeOf(b.second->dtype());
  });
  json header = json::object();
  if (!tensors.metadata.empty()) header["__metadata__"] = tensors.metadata;
  int64_t at = 0;
  for (const auto& [name, tensor] : order) {
    if (*name == "__metadata__") {
      Fail(ErrorCode::kInvalidArgument, "writing '", path.string(),
           "': a tensor cannot be named __metadata__");
    }
    const auto dims = tensor->shape().dims();
    header[*name] = {{"dtype", CodeOf(tensor->dtype())},
                     {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
                     {"data_offsets", {at, at + tensor->bytes()}}};
    at += tensor->bytes();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception& e) {
    Fail(ErrorCode::kInvalidArgument, "writing '", path.string(),
         "': a name is not UTF-8: ", e.what());
  }
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  std::string length;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length += static_cast<char>((uint64_t{text.size()} >> (8 * i)) & 0xff);
  }
  AtomicFile file(path);
  file.Write(length);
  file.Write(text);
  for (const auto& [name, tensor] : order) {
    file.Write(std::span(static_cast<const std::byte*>(tensor->raw()),
                         static_cast<size_t>(tensor->bytes())));
  }
  file.Commit();
}

}  // namespace octet
