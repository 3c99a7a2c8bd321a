#include "files/dataset.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "files/dataset_source.h"
#include "files/npy.h"

namespace octet {
namespace {

// One sample of an array, with the leading dimension 1.
TensorView RowOf(const Tensor& array, int64_t i) {
  Shape shape = array.shape();
  shape.set(0, 1);
  const int64_t bytes = shape.elements() * SizeOf(array.dtype());
  return {array.dtype(), shape, static_cast<const std::byte*>(array.raw()) + i * bytes};
}

// A .npy of one sample may leave out the leading dimension 1.
Tensor LoadNpySample(const std::filesystem::path& path, const Preprocess& preprocess,
                     const InputSpec& input) {
  const Tensor stored = ReadNpy(path);
  TensorView view = stored.view();
  if (view.shape.rank() + 1 == static_cast<int>(input.dims.size())) {
    std::vector<int64_t> dims = {1};
    dims.insert(dims.end(), view.shape.dims().begin(), view.shape.dims().end());
    view.shape = Shape(dims);
  }
  if (view.shape.rank() < 1 || view.shape[0] != 1) {
    Fail(ErrorCode::kBadData, "sample '", path.string(), "': the shape ", stored.shape(),
         "; a file per sample holds one, with or without a leading 1");
  }
  return ArrayToInput(view, preprocess, input, path.string());
}

template <typename T>
void CheckFiniteValues(std::span<const T> values, std::string_view sample, std::string_view input) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      Fail(ErrorCode::kBadData, "sample '", sample, "', input '", input, "': the value at element ",
           i, " is ", std::isnan(values[i]) ? "NaN" : "infinite");
    }
  }
}

void CheckFinite(const TensorView& view, std::string_view sample, std::string_view input) {
  if (view.dtype == DType::kFloat32) CheckFiniteValues(view.data<float>(), sample, input);
  if (view.dtype == DType::kFloat64) CheckFiniteValues(view.data<double>(), sample, input);
  if (view.dtype != DType::kFloat16 && view.dtype != DType::kBFloat16) return;
  // An exponent of ones is an infinity or a NaN.
  const uint16_t ones = view.dtype == DType::kFloat16 ? 0x7c00 : 0x7f80;
  const auto* bits = static_cast<const uint16_t*>(view.raw);
  for (int64_t i = 0; i < view.elements(); ++i) {
    if ((bits[i] & ones) == ones) {
      Fail(ErrorCode::kBadData, "sample '", sample, "', input '", input, "': the value at element ",
           i, " is NaN or infinite");
    }
  }
}

}  // namespace

std::vector<TensorView> Sample::views() const {
  std::vector<TensorView> views;
  for (const Tensor& t : inputs) views.push_back(t.view());
  return views;
}

Dataset Dataset::Open(const std::filesystem::path& path, std::vector<InputSpec> inputs,
                      DatasetOptions options) {
  Dataset dataset;
  auto source = std::make_shared<DatasetSource>(OpenSource(path, std::move(inputs), options));
  dataset.count_ = source->size();
  dataset.source_ = std::move(source);
  return dataset;
}

bool Dataset::has_labels() const {
  return !source_->labels.empty() ||
         (!source_->files.empty() && source_->files[0].label.has_value());
}

const std::vector<InputSpec>& Dataset::inputs() const { return source_->inputs; }
const std::filesystem::path& Dataset::path() const { return source_->path; }
const std::vector<std::string>& Dataset::notes() const { return source_->notes; }

std::string Dataset::NameOf(int64_t i) const {
  OCTET_INVARIANT(i >= 0 && i < count_);
  if (!source_->arrays.empty()) return Cat(source_->path.filename().string(), "[", begin_ + i, "]");
  return source_->files[static_cast<size_t>(begin_ + i)].name;
}

std::optional<int64_t> Dataset::LabelOf(int64_t i) const {
  OCTET_INVARIANT(i >= 0 && i < count_);
  const auto at = static_cast<size_t>(begin_ + i);
  if (!source_->labels.empty()) return source_->labels[at];
  if (!source_->files.empty()) return source_->files[at].label;
  return std::nullopt;
}

Sample Dataset::Load(int64_t i) const {
  if (kept_ == nullptr) return Read(i);
  const Sample& kept = kept_->at(static_cast<size_t>(begin_ + i - kept_begin_));
  Sample sample{.name = kept.name, .inputs = {}, .label = kept.label};
  for (const Tensor& t : kept.inputs)
    sample.inputs.push_back(Tensor::Borrow(t.dtype(), t.shape(), t.raw(), kept_));
  return sample;
}

Dataset Dataset::InMemory(int64_t max_bytes) const {
  if (count_ == 0) return *this;
  int64_t bytes = 0;
  for (const Tensor& t : Read(0).inputs) bytes += t.bytes();
  if (bytes > max_bytes / count_) return *this;
  auto samples = std::make_shared<std::vector<Sample>>(static_cast<size_t>(count_));
  ParallelForEach(count_, [&](int64_t i) { (*samples)[static_cast<size_t>(i)] = Read(i); });
  Dataset kept = *this;
  kept.kept_ = std::move(samples);
  kept.kept_begin_ = begin_;
  return kept;
}

Sample Dataset::Read(int64_t i) const {
  Sample sample{.name = NameOf(i), .inputs = {}, .label = LabelOf(i)};
  const auto& inputs = source_->inputs;
  const auto& preprocess = source_->preprocess;
  if (!source_->arrays.empty()) {
    for (size_t k = 0; k < inputs.size(); ++k) {
      sample.inputs.push_back(
          ArrayToInput(RowOf(source_->arrays[k], begin_ + i), preprocess, inputs[k], sample.name));
    }
  } else {
    const auto path = source_->path / sample.name;
    sample.inputs.push_back(
        IsImagePath(path) ? ImageToTensor(ReadImage(path), preprocess, inputs[0], path.string())
                          : LoadNpySample(path, preprocess, inputs[0]));
  }
  for (size_t k = 0; k < inputs.size(); ++k)
    CheckFinite(sample.inputs[k].view(), sample.name, inputs[k].name);
  return sample;
}

Batch Dataset::LoadBatch(int64_t begin, int64_t count) const {
  OCTET_INVARIANT(begin >= 0 && count >= 1 && begin + count <= count_);
  std::vector<Sample> samples(static_cast<size_t>(count));
  ParallelForEach(count, [&](int64_t i) { samples[static_cast<size_t>(i)] = Load(begin + i); });
  Batch batch;
  for (const auto& sample : samples) {
    batch.names.push_back(sample.name);
    if (sample.label) batch.labels.push_back(*sample.label);
  }
  for (size_t k = 0; k < inputs().size(); ++k) {
    const Tensor& first = samples[0].inputs[k];
    Shape shape = first.shape();
    shape.set(0, count);
    Tensor joined(first.dtype(), shape);
    auto* to = static_cast<std::byte*>(joined.mutable_raw());
    for (const auto& sample : samples) {
      const Tensor& from = sample.inputs[k];
      if (!(from.shape() == first.shape())) {
        Fail(ErrorCode::kBadData, "samples '", samples[0].name, "' ", first.shape(), " and '",
             sample.name, "' ", from.shape(), " do not make one batch of the input '",
             inputs()[k].name, "'");
      }
      const auto bytes = static_cast<size_t>(from.bytes());
      if (bytes > 0) std::memcpy(to, from.raw(), bytes);
      to += bytes;
    }
    batch.inputs.push_back(std::move(joined));
  }
  return batch;
}

Dataset Dataset::Select(int64_t begin, int64_t count) const {
  if (begin < 0 || begin >= count_ || count == 0 || count > count_ - begin) {
    Fail(ErrorCode::kBadData, "data '", path().string(), "': ", count_, " samples; asked for ",
         count < 0 ? std::string("those") : std::to_string(count), " from sample ", begin, " on");
  }
  Dataset selected = *this;
  selected.begin_ = begin_ + begin;
  selected.count_ = count < 0 ? count_ - begin : count;
  return selected;
}

void Dataset::CheckLabels(int64_t classes) const {
  if (!has_labels()) {
    Fail(ErrorCode::kBadData, "data '", path().string(),
         "': no labels; give labels.csv, class folders or an array "
         "'labels'");
  }
  for (int64_t i = 0; i < count_; ++i) {
    const int64_t label = LabelOf(i).value();
    if (label >= classes) {
      Fail(ErrorCode::kBadData, "data '", path().string(), "': sample '", NameOf(i),
           "' has the label ", label, "; the model tells ", classes, " classes (0…", classes - 1,
           ")");
    }
  }
}

std::string Dataset::ContentHash() const {
  std::string text;
  for (int64_t i = 0; i < count_; ++i) {
    const auto label = LabelOf(i);
    text += Cat(NameOf(i), '\n', label ? std::to_string(*label) : std::string("-"), '\n');
    if (source_->arrays.empty()) {
      text += Sha256HexOfFile(source_->path / NameOf(i));
    }
    for (size_t k = 0; k < source_->arrays.size(); ++k) {
      const TensorView row = RowOf(source_->arrays[k], begin_ + i);
      const std::span bytes(static_cast<const std::byte*>(row.raw),
                            static_cast<size_t>(row.bytes()));
      text += Cat(inputs()[k].name, ' ', octet::NameOf(row.dtype), row.shape, ' ', Sha256Hex(bytes),
                  '\n');
    }
    text += '\n';
  }
  return Sha256Hex(std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace octet
