// Finding out what lies at a data path, and reading names, labels and shapes.
#include <algorithm>
#include <charconv>
#include <map>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "files/dataset_source.h"
#include "files/npy.h"
#include "files/safetensors.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLabelsFile = "labels.csv";
constexpr std::string_view kLabelsName =
    "labels";                  // of the array in .npz, .safetensors, labels.npy
constexpr size_t kListed = 5;  // names that a remark lists before it says how many more

bool IsNpy(const fs::path& path) { return path.extension() == ".npy"; }
bool IsSampleFile(const fs::path& path) { return IsImagePath(path) || IsNpy(path); }

struct FolderEntries {
  std::vector<std::string> samples;  // file names
  std::vector<std::string> folders;
  std::vector<std::string> others;
};

// Names of what lies in a folder, each list sorted by bytes. Hidden entries do not count.
FolderEntries ReadFolder(const fs::path& folder) {
  FolderEntries entries;
  std::error_code error;
  fs::directory_iterator it(folder, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(".")) continue;
    std::error_code ignored;
    if (it->is_directory(ignored)) {
      entries.folders.push_back(name);
    } else if (IsSampleFile(name)) {
      entries.samples.push_back(name);
    } else {
      entries.others.push_back(name);
    }
  }
  if (error)
    Fail(ErrorCode::kIo, "cannot read the folder '", folder.string(), "': ", error.message());
  for (auto* list : {&entries.samples, &entries.folders, &entries.others})
    std::sort(list->begin(), list->end());
  return entries;
}

std::string Listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < kListed; ++i) text += Cat(i > 0 ? ", " : "", names[i]);
  if (names.size() > kListed) text += Cat(" and ", names.size() - kListed, " more");
  return text;
}

std::string InputNames(const std::vector<InputSpec>& inputs) {
  std::vector<std::string> names;
  for (const auto& input : inputs) names.push_back(input.name);
  return Listed(names);
}

// The file name an input's array has in a folder: characters that cannot stand in one become '_'.
std::string FileNameOf(const InputSpec& input) {
  std::string name = input.name;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '/' || c == '\\' || c == ':'; }, '_');
  return name + ".npy";
}

std::vector<int64_t> ReadLabelArray(const TensorView& array, std::string_view name) {
  if (!IsInteger(array.dtype) || array.shape.rank() != 1) {
    Fail(ErrorCode::kBadData, "labels '", name, "': ", octet::NameOf(array.dtype), array.shape,
         "; expected integers of shape [samples]");
  }
  const InputSpec as_int64{.name = "labels", .dtype = DType::kInt64, .dims = {-1}};
  const Tensor converted = ArrayToInput(array, {}, as_int64, name);
  const auto values = converted.data<int64_t>();
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0)
      Fail(ErrorCode::kBadData, "labels '", name, "': sample ", i, " has the label ", values[i]);
  }
  return {values.begin(), values.end()};
}

// Sorts arrays to the inputs. `arrays` may hold more than is needed; what is left over is noted.
void TakeArrays(std::map<std::string, Tensor> arrays, DatasetSource& source) {
  const std::string where = source.path.string();
  if (const auto it = arrays.find(std::string(kLabelsName)); it != arrays.end()) {
    const bool is_input =
        std::any_of(source.inputs.begin(), source.inputs.end(),
                    [](const InputSpec& input) { return input.name == kLabelsName; });
    if (!is_input) {
      source.labels = ReadLabelArray(it->second.view(), Cat(where, ":", kLabelsName));
      arrays.erase(it);
    }
  }
  std::vector<std::string> present;
  for (const auto& [name, tensor] : arrays) present.push_back(name);
  for (const auto& input : source.inputs) {
    auto it = arrays.find(input.name);
    if (it == arrays.end() && source.inputs.size() == 1 && arrays.size() == 1) it = arrays.begin();
    if (it == arrays.end()) {
      Fail(ErrorCode::kBadData, "data '", where, "': no array for the input '", input.name,
           "'; there are: ", present.empty() ? std::string("none") : Listed(present));
    }
    const Tensor& array = it->second;
    if (array.shape().rank() < 1) {
      Fail(ErrorCode::kBadData, "data '", where, "': the array '", it->first,
           "' is a scalar; its first axis "
           "should be the samples");
    }
    if (!source.arrays.empty() && array.shape()[0] != source.arrays[0].shape()[0]) {
      Fail(ErrorCode::kBadData, "data '", where, "': ", source.arrays[0].shape()[0],
           " samples for the input '", source.inputs[0].name, "' and ", array.shape()[0], " for '",
           input.name, "'");
    }
    Shape row = array.shape();
    row.set(0, 1);
    CheckArrayFits(array.dtype(), row, source.preprocess, input, where);
    source.arrays.push_back(std::move(it->second));
    arrays.erase(it);
  }
  std::vector<std::string> left;
  for (const auto& [name, tensor] : arrays) left.push_back(name);
  if (!left.empty()) source.notes.push_back(Cat("arrays that no input takes: ", Listed(left)));
}

void TakeOneFilePerSample(DatasetSource& source) {
  if (source.inputs.size() == 1) return;
  Fail(ErrorCode::kBadData, "data '", source.path.string(),
       "': one file per sample feeds one input; the model has ", source.inputs.size(), " (",
       InputNames(source.inputs), "): give a .npz or .safetensors with an array for each");
}

void OpenFolder(DatasetSource& source) {
  const FolderEntries entries = ReadFolder(source.path);
  const auto has = [&](const std::string& name) {
    return std::binary_search(entries.samples.begin(), entries.samples.end(), name);
  };
  const auto is_named = [&](const InputSpec& input) { return has(FileNameOf(input)); };
  if (std::binary_search(entries.others.begin(), entries.others.end(), std::string(kLabelsFile))) {
    TakeOneFilePerSample(source);
    const fs::path list = source.path / kLabelsFile;
    source.files = ParseLabels(ReadFile(list), source.path, list.string());
    return;
  }
  if (!source.inputs.empty() && std::all_of(source.inputs.begin(), source.inputs.end(), is_named)) {
    std::map<std::string, Tensor> arrays;
    for (const auto& input : source.inputs)
      arrays[input.name] = ReadNpy(source.path / FileNameOf(input));
    if (const auto labels = Cat(kLabelsName, ".npy");
        has(labels) && !arrays.contains(std::string(kLabelsName))) {
      arrays[std::string(kLabelsName)] = ReadNpy(source.path / labels);
    }
    TakeArrays(std::move(arrays), source);
    return;
  }
  if (!entries.others.empty()) {
    source.notes.push_back(Cat("files that are neither images (.jpg, .jpeg, .png) nor .npy: ",
                               Listed(entries.others)));
  }
  if (!entries.samples.empty()) {
    TakeOneFilePerSample(source);
    for (const auto& name : entries.samples) source.files.push_back({name, std::nullopt});
    if (!entries.folders.empty())
      source.notes.push_back(Cat("folders not looked into: ", Listed(entries.folders)));
    return;
  }
  std::vector<std::string> empty;
  for (size_t label = 0; label < entries.folders.size(); ++label) {
    const auto& folder = entries.folders[label];
    const FolderEntries inner = ReadFolder(source.path / folder);
    if (inner.samples.empty()) empty.push_back(folder);
    for (const auto& name : inner.samples) {
      source.files.push_back({folder + "/" + name, static_cast<int64_t>(label)});
    }
  }
  if (!source.files.empty()) TakeOneFilePerSample(source);
  if (!empty.empty()) source.notes.push_back(Cat("class folders without samples: ", Listed(empty)));
}

void OpenFile(DatasetSource& source) {
  const auto ending = source.path.extension();
  std::map<std::string, Tensor> arrays;
  if (ending == ".npy") {
    if (source.inputs.size() != 1) {
      Fail(ErrorCode::kBadData, "data '", source.path.string(),
           "': one array feeds one input; the model has ", source.inputs.size(), " (",
           InputNames(source.inputs), "): give a .npz or .safetensors");
    }
    arrays[source.inputs[0].name] = ReadNpy(source.path);
  } else if (ending == ".npz") {
    for (auto& array : ReadNpz(source.path)) arrays[array.name] = std::move(array.tensor);
  } else if (ending == ".safetensors") {
    arrays = ReadSafetensors(source.path).tensors;
  } else {
    Fail(ErrorCode::kBadData, "data '", source.path.string(),
         "': neither a folder nor .npy, .npz or .safetensors");
  }
  TakeArrays(std::move(arrays), source);
}

// Splits one line of the list. Quotes may hold commas; "" within them is a quote.
std::optional<std::vector<std::string>> SplitFields(std::string_view line) {
  std::vector<std::string> fields(1);
  bool quoted = false, closed = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quoted) {
      if (c != '"') {
        fields.back() += c;
      } else if (i + 1 < line.size() && line[i + 1] == '"') {
        fields.back() += c;
        ++i;
      } else {
        quoted = false;
        closed = true;
      }
    } else if (c == ',') {
      fields.emplace_back();
      closed = false;
    } else if (c == '"' && fields.back().empty() && !closed) {
      quoted = true;
    } else if (c == '"' || closed) {
      return std::nullopt;
    } else {
      fields.back() += c;
    }
  }
  if (quoted) return std::nullopt;
  return fields;
}

}  // namespace

std::vector<SampleFile> ParseLabels(std::string_view text, const fs::path& folder,
                                    std::string_view name) {
  int64_t line_number = 0;
  const auto bad = [&](const auto&... what) {
    Fail(ErrorCode::kBadData, "'", name, "' line ", line_number, ": ", what...);
  };
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::vector<SampleFile> files;
  std::map<std::string, int64_t> line_of;
  bool has_header = false;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    if (!has_header) {
      if (line != "file,label")
        bad("the header is '", line.substr(0, 80), "'; expected 'file,label'");
      has_header = true;
      continue;
    }
    const auto fields = SplitFields(line);
    if (!fields) bad("a quote in the wrong place: ", line.substr(0, 80));
    if (fields->size() != 2) bad(fields->size(), " columns; expected file,label");
    const fs::path given((*fields)[0]);
    const fs::path file = given.lexically_normal();
    const bool leaves = std::find(given.begin(), given.end(), fs::path("..")) != given.end();
    if (given.empty() || given.is_absolute() || leaves ||
        given.string().find('\0') != std::string::npos) {
      bad("the path '", given.string(), "' is not one below the folder");
    }
    const std::string& digits = (*fields)[1];
    int64_t label = 0;
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), label);
    if (error != std::errc{} || stop != digits.data() + digits.size() || label < 0) {
      bad("the label '", digits, "' of '", given.string(), "' is no integer from 0 on");
    }
    if (!IsSampleFile(file))
      bad("'", given.string(), "' is neither an image (.jpg, .jpeg, .png) nor .npy");
    const auto [first, is_new] = line_of.emplace(file.string(), line_number);
    if (!is_new) bad("'", given.string(), "' is listed twice (first on line ", first->second, ")");
    std::error_code status;
    if (!fs::is_regular_file(folder / file, status))
      bad("no file '", (folder / file).string(), "'");
    files.push_back({file.string(), label});
  }
  if (!has_header)
    Fail(ErrorCode::kBadData, "'", name, "' is empty; expected the header 'file,label'");
  return files;
}

DatasetSource OpenSource(const fs::path& path, std::vector<InputSpec> inputs,
                         const DatasetOptions& options) {
  DatasetSource source;
  source.path = path;
  source.inputs = std::move(inputs);
  source.preprocess = options.preprocess;
  if (source.inputs.empty())
    Fail(ErrorCode::kBadData, "data '", path.string(), "': the model has no inputs");
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) {
    Fail(ErrorCode::kIo, "data '", path.string(),
         "': ", error ? error.message() : "no such file or folder");
  }
  if (fs::is_directory(status)) {
    OpenFolder(source);
  } else {
    OpenFile(source);
  }
  if (source.size() == 0) {
    Fail(ErrorCode::kBadData, "data '", path.string(), "': no samples",
         source.notes.empty() ? "" : "; ", source.notes.empty() ? "" : source.notes[0]);
  }
  const bool labelled =
      !source.labels.empty() || (!source.files.empty() && source.files[0].label.has_value());
  if (!options.labels.empty()) {
    if (labelled) {
      Fail(ErrorCode::kBadData, "labels '", options.labels.string(), "': the data '", path.string(),
           "' bring their own");
    }
    source.labels = ReadLabelArray(ReadNpy(options.labels).view(), options.labels.string());
  }
  if (!source.labels.empty() && static_cast<int64_t>(source.labels.size()) != source.size()) {
    Fail(ErrorCode::kBadData, "data '", path.string(), "': ", source.labels.size(), " labels for ",
         source.size(), " samples");
  }
  // Files are judged by their input once; each one's own contents on Load.
  if (!source.files.empty() && IsImagePath(source.files[0].name)) {
    static_cast<void>(ReadImageInput(source.preprocess, source.inputs[0]));
  }
  return source;
}

}  // namespace octet
