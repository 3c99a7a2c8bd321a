// For tests only: a folder of their own that goes away with them, and what message an error bears.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace octet {

class TestFolder {
 public:
  TestFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "octet_testXXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = pattern;
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const {
    return path_ / name;
  }
  // Writes a file (and the folders it lies in); returns its path.
  std::filesystem::path Write(std::string_view name, std::string_view contents) const {
    const auto file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << contents;
    return file;
  }
  // Names of all entries, hidden ones too.
  [[nodiscard]] size_t EntryCount() const {
    size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) ++n;
    return n;
  }

 private:
  std::filesystem::path path_;
};

// The Error that `statement` throws; nullopt (and a failed test) where it throws none.
template <typename F>
[[nodiscard]] std::optional<Error> ErrorOf(const F& statement) {
  try {
    statement();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "expected an octet::Error";
  return std::nullopt;
}

// Expects an Error of this kind whose message holds all of `parts`.
template <typename F, typename... Parts>
void ExpectError(ErrorCode code, const F& statement, const Parts&... parts) {
  const auto error = ErrorOf(statement);
  if (!error) return;
  EXPECT_EQ(static_cast<int>(error->code()), static_cast<int>(code)) << error->what();
  const std::initializer_list<std::string_view> expected = {std::string_view(parts)...};
  for (const std::string_view part : expected) {
    EXPECT_NE(std::string_view(error->what()).find(part), std::string_view::npos)
        << "'" << part << "' is not in: " << error->what();
  }
}

[[nodiscard]] inline std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace octet
