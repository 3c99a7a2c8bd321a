// Output of several files that appears whole or not at all.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace octet {

// Files that belong together beside others in an existing folder (model.onnx, model.onnx.data, the
// manifest). All are written into a hidden folder beside them; Commit() renames each into place in
// the order they were added: put last the one that names the others.
class OutputFiles {
 public:
  // `folder` is where the files go; it must exist. Throws kIo.
  explicit OutputFiles(std::filesystem::path folder);
  ~OutputFiles();
  OutputFiles(const OutputFiles&) = delete;
  OutputFiles& operator=(const OutputFiles&) = delete;

  // Where to write the file that will bear this name (a plain name, no folders). A name given twice
  // is one file.
  [[nodiscard]] std::filesystem::path Add(const std::string& name);
  void Commit();  // throws kIo

 private:
  std::filesystem::path folder_;
  std::filesystem::path temporary_;
  std::vector<std::string> names_;
};

}  // namespace octet
