#include "files/output_folder.h"

#include <fcntl.h>
#include <stdio.h>  // renameat2 is not in <cstdio>'s namespace
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "files/manifest.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void FailOutput(const fs::path& path, std::string_view why) {
  Fail(ErrorCode::kIo, "cannot write '", path.string(), "': ", why);
}

// "out/" and "out" are the same target.
fs::path WithoutTrailingSlash(fs::path path) {
  return path.has_filename() ? path : path.parent_path();
}

fs::path ParentOf(const fs::path& path) {
  return path.parent_path().empty() ? fs::path(".") : path.parent_path();
}

// A folder nobody else has, beside `target`: mkdir fails rather than share one, and the next number
// is tried.
fs::path MakeTemporary(const fs::path& parent, const std::string& name, const fs::path& target) {
  constexpr int kAttempts = 1000;
  for (int i = 0; i < kAttempts; ++i) {
    fs::path path = parent / Cat(".", name, ".tmp", ::getpid(), "-", i);
    if (::mkdir(path.c_str(), 0777) == 0) return path;
    if (errno != EEXIST) break;
  }
  FailOutput(target, std::strerror(errno));
}

void SyncFolder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

void RemoveQuietly(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

}  // namespace

OutputFolder::OutputFolder(fs::path target) : target_(WithoutTrailingSlash(std::move(target))) {
  if (target_.empty()) Fail(ErrorCode::kInvalidArgument, "output folder: an empty path");
  std::error_code error;
  const auto status = fs::status(target_, error);
  if (fs::exists(status)) {
    if (!fs::is_directory(status)) {
      Fail(ErrorCode::kInvalidArgument, "output folder '", target_.string(),
           "': exists and is no folder");
    }
    replaces_ = !fs::is_empty(target_, error);
    if (error) FailOutput(target_, error.message());
    if (replaces_ && !IsManifest(target_ / kManifestName)) {
      Fail(ErrorCode::kInvalidArgument, "output folder '", target_.string(),
           "': exists, is not empty and holds no earlier output of Octet; name another folder or "
           "empty it");
    }
  }
  const fs::path name = target_.filename();
  if (name == "." || name == "..") {
    Fail(ErrorCode::kInvalidArgument, "output folder '", target_.string(),
         "': name the folder itself");
  }
  temporary_ = MakeTemporary(ParentOf(target_), name.string(), target_);
}

OutputFolder::~OutputFolder() {
  if (!temporary_.empty()) RemoveQuietly(temporary_);
}

void OutputFolder::Commit() {
  OCTET_INVARIANT(!temporary_.empty());
  SyncFolder(temporary_);
  // rename() replaces an empty folder. A full one changes places with the new one and is then
  // removed.
  if (!replaces_) {
    if (::rename(temporary_.c_str(), target_.c_str()) != 0)
      FailOutput(target_, std::strerror(errno));
  } else if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(),
                         RENAME_EXCHANGE) == 0) {
    RemoveQuietly(temporary_);
  } else {
    // File systems without the exchange: the old folder steps aside, and back where the new one
    // cannot take its place.
    const fs::path old = Cat(temporary_.string(), ".old");
    if (::rename(target_.c_str(), old.c_str()) != 0) FailOutput(target_, std::strerror(errno));
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
      const int cause = errno;
      ::rename(old.c_str(), target_.c_str());
      FailOutput(target_, std::strerror(cause));
    }
    RemoveQuietly(old);
  }
  temporary_.clear();
  SyncFolder(ParentOf(target_));
}

OutputFiles::OutputFiles(fs::path folder)
    : folder_(folder.empty() ? fs::path(".") : std::move(folder)) {
  temporary_ = MakeTemporary(folder_, "octet", folder_);
}

OutputFiles::~OutputFiles() { RemoveQuietly(temporary_); }

fs::path OutputFiles::Add(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || fs::path(name).filename() != name) {
    Fail(ErrorCode::kInvalidArgument, "output file '", name, "': expected a name without folders");
  }
  if (std::find(names_.begin(), names_.end(), name) == names_.end()) names_.push_back(name);
  return temporary_ / name;
}

void OutputFiles::Commit() {
  // What can be known to fail is looked for before the first file is replaced.
  for (const auto& name : names_) {
    std::error_code ignored;
    if (!fs::exists(temporary_ / name, ignored)) {
      Fail(ErrorCode::kInternal, "output file '", (folder_ / name).string(),
           "' was announced and not written");
    }
    if (fs::is_directory(folder_ / name, ignored)) FailOutput(folder_ / name, "it is a folder");
  }
  for (const auto& name : names_) {
    if (::rename((temporary_ / name).c_str(), (folder_ / name).c_str()) != 0) {
      FailOutput(folder_ / name, std::strerror(errno));
    }
  }
  names_.clear();
  SyncFolder(folder_);
}

}  // namespace octet
