#include "files/manifest.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace octet {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kKind = "octet.manifest";
constexpr int kFormat = 1;

ordered_json ToList(const std::vector<ManifestFile>& files) {
  ordered_json list = ordered_json::array();
  for (const auto& file : files) {
    list.push_back({{"role", file.role}, {"name", file.name}, {"sha256", file.sha256}});
  }
  return list;
}

ordered_json ParsePart(const std::string& text, std::string_view what) {
  auto part = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (part.is_discarded())
    Fail(ErrorCode::kInternal, "manifest: the ", what, " is no JSON: ", text.substr(0, 80));
  return part;
}

}  // namespace

void Manifest::AddInput(std::string role, const std::filesystem::path& file) {
  inputs.push_back({std::move(role), file.filename().string(), Sha256HexOfFile(file)});
}

void Manifest::AddOutput(std::string role, const std::filesystem::path& file) {
  outputs.push_back({std::move(role), file.filename().string(), Sha256HexOfFile(file)});
}

std::string Manifest::ToJson() const {
  ordered_json j;
  j["kind"] = kKind;
  j["format"] = kFormat;
  j["command"] = command;
  j["octet_version"] = version;
  j["isa"] = isa;
  j["cpu"] = cpu;
  j["seed"] = seed;
  j["inputs"] = ToList(inputs);
  j["outputs"] = ToList(outputs);
  if (!preprocess_json.empty()) j["preprocess"] = ParsePart(preprocess_json, "preprocessing");
  if (!recipe_json.empty()) j["recipe"] = ParsePart(recipe_json, "recipe");
  j["notes"] = notes;
  // A file name need not be UTF-8; what is not is replaced rather than refused.
  return j.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

void WriteManifest(const std::filesystem::path& path, const Manifest& manifest) {
  WriteFileAtomic(path, manifest.ToJson());
}

bool IsManifest(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  const auto j = ordered_json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  return j.is_object() && j.contains("kind") && j["kind"].is_string() &&
         j["kind"].get<std::string>() == kKind;
}

}  // namespace octet
