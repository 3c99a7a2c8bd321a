// Data to calibrate and evaluate on, one sample at a time, whatever they lie in:
//
//   folder with labels.csv    rows "file,label"; files are images or .npy (one sample each)
//   folder of class folders   sorted folder names are the classes 0, 1, …
//   folder of images / .npy   one sample each, sorted by name, no labels. Where a .npy is named
//   after every
//                             input of the model (INPUT.npy), these are arrays of all samples
//                             instead
//   x.npy                     first axis: samples
//   x.npz, x.safetensors      arrays by input name, first axis: samples; optional "labels"
//
// With a single input and a single array the names need not agree. Preprocessing applies to images,
// and to arrays too: a uint8 array [N,H,W,3] for an image input goes the way of an image file;
// other arrays are normalized ((x · scale − mean) / std over the channel axis), and refused where a
// resize or crop is asked for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "files/preprocess.h"
#include "tensor/tensor.h"

namespace octet {

struct DatasetOptions {
  Preprocess preprocess;
  // Integer .npy of one label per sample, for data that bring none. Empty: none.
  std::filesystem::path labels;
};

struct Sample {
  std::string name;              // file name below the folder, or "file.npy[17]"
  std::vector<Tensor> inputs;    // in the order of the input specs, leading dimension 1
  std::optional<int64_t> label;  // >= 0

  [[nodiscard]] std::vector<TensorView> views() const;  // of the inputs
};

// Samples of one shape joined along the leading dimension.
struct Batch {
  std::vector<std::string> names;
  std::vector<Tensor> inputs;
  std::vector<int64_t> labels;  // empty where there are none
};

struct DatasetSource;  // files/dataset_source.h

// Immutable; copies share the files. All const members may be called from several threads at once.
class Dataset {
 public:
  // Looks through names, labels and shapes; images are decoded on Load. Throws kIo, kBadFile,
  // kBadData.
  [[nodiscard]] static Dataset Open(const std::filesystem::path& path,
                                    std::vector<InputSpec> inputs, DatasetOptions options = {});

  [[nodiscard]] int64_t size() const { return count_; }
  [[nodiscard]] bool has_labels() const;
  [[nodiscard]] const std::vector<InputSpec>& inputs() const;
  [[nodiscard]] const std::filesystem::path& path() const;
  // Remarks for the user: files that were passed over, and the like.
  [[nodiscard]] const std::vector<std::string>& notes() const;

  [[nodiscard]] std::string NameOf(int64_t i) const;
  [[nodiscard]] std::optional<int64_t> LabelOf(int64_t i) const;
  // Throws kBadData naming sample and input where a value is NaN or infinite or a shape or dtype
  // does not fit.
  [[nodiscard]] Sample Load(int64_t i) const;
  [[nodiscard]] Batch LoadBatch(int64_t begin, int64_t count) const;

  // `count` samples from `begin` on; count < 0: all that follow. Throws kBadData where there are
  // not as many.
  [[nodiscard]] Dataset Select(int64_t begin, int64_t count) const;

  // The same samples, loaded now and kept, for who reads them again and again. Samples of more than
  // `max_bytes` together are not kept.
  [[nodiscard]] Dataset InMemory(int64_t max_bytes) const;

  // Throws kBadData naming the first sample whose label is not below `classes`, or where there are
  // no labels.
  void CheckLabels(int64_t classes) const;

  // SHA-256 over names, labels and stored bytes of the samples selected, before preprocessing.
  [[nodiscard]] std::string ContentHash() const;

 private:
  [[nodiscard]] Sample Read(int64_t i) const;

  std::shared_ptr<const DatasetSource> source_;
  std::shared_ptr<const std::vector<Sample>> kept_;  // of InMemory: from kept_begin_ on; or null
  int64_t kept_begin_ = 0;
  int64_t begin_ = 0;
  int64_t count_ = 0;
};

// Judges a calibration set while it streams by. Noise: images whose neighbouring pixels are
// uncorrelated. Observe may be called from several threads, in any order.
class DataCheck {
 public:
  explicit DataCheck(std::vector<InputSpec> inputs, bool allow_noise = false);
  void Observe(const Sample& sample);
  // Warnings, in the order of the inputs. Throws kBadData where nothing was observed, where every
  // sample of every input is constant, and where every image of an input is noise, unless noise is
  // allowed.
  [[nodiscard]] std::vector<std::string> Finish() const;

 private:
  struct Seen {
    int64_t samples = 0;
    int64_t constant = 0;
    int64_t image_like = 0;    // large enough to tell noise, and not constant
    int64_t uncorrelated = 0;  // of these
    bool all_integers = true;
    bool all_equal = true;  // to the first sample's bytes
    double min = 0.0;
    double max = 0.0;
    std::string first_hash;
  };
  std::vector<InputSpec> inputs_;
  bool allow_noise_;
  mutable std::mutex mutex_;
  std::vector<Seen> seen_;  // by input
};

}  // namespace octet
