// What a Dataset stands on once it is open: either a list of files, one sample each, or whole
// arrays. Internal to files/: dataset_open.cc finds it, dataset.cc reads from it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "files/dataset.h"

namespace octet {

struct SampleFile {
  std::string name;  // below the data set's folder
  std::optional<int64_t> label;
};

struct DatasetSource {
  std::filesystem::path path;
  std::vector<InputSpec> inputs;
  Preprocess preprocess;
  std::vector<std::string> notes;

  std::vector<SampleFile> files;  // empty where the samples lie in arrays
  std::vector<Tensor> arrays;     // by input, first axis: samples
  std::vector<int64_t> labels;    // of arrays, and of options.labels; empty: none

  [[nodiscard]] int64_t size() const {
    return arrays.empty() ? static_cast<int64_t>(files.size()) : arrays[0].shape()[0];
  }
};

[[nodiscard]] DatasetSource OpenSource(const std::filesystem::path& path,
                                       std::vector<InputSpec> inputs,
                                       const DatasetOptions& options);

// Rows of a "file,label" list. `folder` is where the files are looked for, `name` is named in
// errors. Spec: RFC 4180 without line breaks in fields; CRLF, a byte order mark and blank lines are
// tolerated.
[[nodiscard]] std::vector<SampleFile> ParseLabels(std::string_view text,
                                                  const std::filesystem::path& folder,
                                                  std::string_view name);

// One stored sample as the input takes it: shape checked, converted, preprocessed. `row` has the
// leading dimension 1. Throws kBadData naming `name` and the input.
[[nodiscard]] Tensor ArrayToInput(const TensorView& row, const Preprocess& preprocess,
                                  const InputSpec& input, std::string_view name);

// Throws kBadData unless ArrayToInput takes arrays of this type and shape (their values aside).
void CheckArrayFits(DType dtype, const Shape& row, const Preprocess& preprocess,
                    const InputSpec& input, std::string_view name);

}  // namespace octet
