// What made an output: hashes of everything that went in and came out, and every setting in force.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

inline constexpr std::string_view kManifestName = "manifest.json";  // in a folder of outputs

struct ManifestFile {
  std::string role;    // "model", "data", "recipe", "statistics", "output", …
  std::string name;    // file name, without folders: a manifest says nothing about the machine
  std::string sha256;  // of the file; of data: Dataset::ContentHash()
};

struct Manifest {
  std::string command = {};  // "quantize"
  std::string version = {};  // of Octet
  std::string isa = {};      // level in force
  std::string cpu = {};
  uint64_t seed = 0;
  std::vector<ManifestFile> inputs = {};
  std::vector<ManifestFile> outputs = {};
  std::string recipe_json = {};      // the full effective recipe; empty: none
  std::string preprocess_json = {};  // Preprocess::ToJson(); empty: none
  std::vector<std::string> notes = {};

  void AddInput(std::string role,
                const std::filesystem::path& file);  // hashes the file; throws kIo
  void AddOutput(std::string role, const std::filesystem::path& file);
  // Keys in a fixed order, no time stamps: the same run gives the same bytes. Throws kInternal
  // where recipe_json or preprocess_json is no JSON.
  [[nodiscard]] std::string ToJson() const;
};

void WriteManifest(const std::filesystem::path& path, const Manifest& manifest);  // atomic
// True where the file is there and is a manifest of Octet's.
[[nodiscard]] bool IsManifest(const std::filesystem::path& path);

}  // namespace octet
