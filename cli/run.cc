#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "command.h"

namespace octet::cli {
namespace {

constexpr size_t kLongestFileName = 200;  // file systems allow 255 bytes, and ".npy" comes on top

// A value's name as a file name that none of `taken` has.
std::string FileName(const std::string& value, std::set<std::string>& taken) {
  std::string name;
  for (char c : value.substr(0, kLongestFileName)) {
    const bool plain =
        std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_';
    name += plain ? c : '_';
  }
  std::string unique = name;
  for (int i = 2; !taken.insert(unique).second; ++i) unique = fmt::format("{}_{}", name, i);
  return unique + ".npy";
}

struct Job {
  std::string model;
  std::vector<std::pair<std::string, std::string>> inputs;  // name, .npy
  std::string output_dir;
  std::string dump_codes;
  bool int8 = false;
  int threads = 0;
};

// Adds min and max, and nan where there are any. Elements of T; none of them: nothing.
template <typename T>
void AddRange(const Array& a, Json& j) {
  T least{}, most{};
  bool any = false;
  int64_t nan = 0;
  for (size_t i = 0; i + sizeof(T) <= a.bytes.size(); i += sizeof(T)) {
    T v;
    std::memcpy(&v, a.bytes.data() + i, sizeof v);
    if (v != v) {
      ++nan;
      continue;
    }
    least = any ? std::min(least, v) : v;
    most = any ? std::max(most, v) : v;
    any = true;
  }
  if (any) {
    j["min"] = least;  // infinities are null as text of JSON
    j["max"] = most;
  }
  if (nan > 0) j["nan"] = nan;
}

Json Describe(const Array& a) {
  static const std::map<std::string, void (*)(const Array&, Json&)> kRanges = {
      {"float32", AddRange<float>}, {"float64", AddRange<double>},
      {"int8", AddRange<int8_t>},   {"uint8", AddRange<uint8_t>},
      {"int16", AddRange<int16_t>}, {"uint16", AddRange<uint16_t>},
      {"int32", AddRange<int32_t>}, {"uint32", AddRange<uint32_t>},
      {"int64", AddRange<int64_t>}, {"uint64", AddRange<uint64_t>},
      {"bool", AddRange<uint8_t>}};
  Json j = {{"name", a.name}, {"dtype", a.dtype}, {"shape", a.shape}};
  if (const auto range = kRanges.find(a.dtype); range != kRanges.end()) range->second(a, j);
  return j;
}

// "y: float32[1,10], -3.1 .. 2.5: out/y.npy"
std::string Line(const Json& output) {
  std::string text = fmt::format("{}: {}{}", output.at("name").get<std::string>(),
                                 output.at("dtype").get<std::string>(), output.at("shape").dump());
  const auto number = [](const Json& n) {
    return n.is_number_float() ? fmt::format("{:.6g}", n.get<double>()) : n.dump();
  };
  if (output.contains("min"))
    text += fmt::format(", {} .. {}", number(output.at("min")), number(output.at("max")));
  if (output.contains("nan")) text += fmt::format(", {} NaN", output.at("nan").dump());
  if (output.contains("file")) text += ": " + output.at("file").get<std::string>();
  return text;
}

// One entry per array, with the file it went to.
Json WriteArrays(const std::string& folder, const std::vector<Array>& arrays, size_t begin,
                 size_t end) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    throw Error(ErrorCode::kIo, "cannot make the folder '" + folder + "': " + error.message());
  Json written = Json::array();
  std::set<std::string> taken;
  for (size_t i = begin; i < end; ++i) {
    const std::string path =
        (std::filesystem::path(folder) / FileName(arrays[i].name, taken)).string();
    WriteNpyArray(path, arrays[i]);
    Json j = Describe(arrays[i]);
    j["file"] = path;
    written.push_back(std::move(j));
  }
  return written;
}

Json RunJob(const Job& job) {
  Model model = Model::Load(job.model);
  std::vector<std::string> taps;
  if (job.int8 || !job.dump_codes.empty()) {
    if (!job.dump_codes.empty()) taps = QuantizedValues(model);
    if (job.int8) model = Lower(model, !job.dump_codes.empty()).first;
  }
  const Session session(model, taps, job.threads);
  std::vector<Array> inputs;
  for (const auto& [name, path] : job.inputs) {
    inputs.push_back(ReadNpyArray(path));
    inputs.back().name = name;
  }
  const auto arrays = session.Run(inputs);
  const size_t outputs = arrays.size() - taps.size();
  Json described = Json::array();
  if (!job.output_dir.empty()) {
    described = WriteArrays(job.output_dir, arrays, 0, outputs);
  } else {
    for (size_t i = 0; i < outputs; ++i) described.push_back(Describe(arrays[i]));
  }
  if (!job.dump_codes.empty()) {
    const Json codes = WriteArrays(job.dump_codes, arrays, outputs, arrays.size());
    WriteText((std::filesystem::path(job.dump_codes) / "codes.json").string(),
              codes.dump(1) + "\n");
  }
  return described;
}

Json ReadBatchFile(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw Error(ErrorCode::kIo, "cannot open '" + path + "'");
  try {
    return Json::parse(in);
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorCode::kBadFile, "'" + path + "': " + e.what());
  }
}

Json RunBatch(const std::string& path, const Job& defaults) {
  Json answers = Json::array();
  for (const auto& entry : ReadBatchFile(path)) {
    try {
      Job job = defaults;
      job.model = entry.at("model").get<std::string>();
      job.output_dir = entry.at("output_dir").get<std::string>();
      for (const auto& [name, file] : entry.at("inputs").items())
        job.inputs.emplace_back(name, file.get<std::string>());
      answers.push_back({{"ok", true}, {"outputs", RunJob(job)}});
    } catch (const Error& e) {
      answers.push_back({{"ok", false}, {"exit_code", ExitCodeOf(e.code())}, {"error", e.what()}});
    } catch (const nlohmann::json::exception& e) {
      throw Error(ErrorCode::kBadFile, "'" + path + "': " + e.what());
    }
  }
  return answers;
}

}  // namespace

Command AddRun(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand("run", "Run a model on .npy arrays");
  app->footer(
      "Examples:\n  octet run model.onnx --input x=x.npy --output-dir out\n"
      "  octet run int8.onnx --int8 --input x=x.npy --output-dir out --dump-codes codes\n"
      "Prints name, type, shape and range of every output (no range of floats below 32 bits).\n"
      "A batch file is a JSON list of {\"model\", \"inputs\": {name: file}, \"output_dir\"}; the "
      "answer a list of\n"
      "{\"ok\": true, \"outputs\"} or {\"ok\": false, \"exit_code\", \"error\"}.");
  struct Args {
    Job job;
    std::vector<std::string> inputs;
    std::string batch_file;
  };
  auto a = std::make_shared<Args>();
  auto* model = app->add_option("MODEL", a->job.model, "ONNX file");
  app->add_option("--input", a->inputs, "NAME=FILE.npy, once per input");
  app->add_option("--output-dir", a->job.output_dir,
                  "Folder for one .npy per output; without it none is written");
  app->add_option("--dump-codes", a->job.dump_codes,
                  "Folder for one .npy per quantized value, and codes.json");
  app->add_flag("--int8", a->job.int8, "Run a quantized model on the INT8 kernels");
  app->add_option("--batch-file", a->batch_file, "Many runs in one process")->excludes(model);
  return {app, [=, &common] {
            Job job = a->job;
            job.threads = common.threads;
            if (!a->batch_file.empty()) {
              PrintJson(RunBatch(a->batch_file, job));
              return 0;
            }
            if (job.model.empty())
              throw Error(ErrorCode::kInvalidArgument, "run: expected MODEL or --batch-file");
            for (const std::string& i : a->inputs) {
              const auto equals = i.find('=');
              if (equals == std::string::npos) {
                throw Error(ErrorCode::kInvalidArgument,
                            "--input " + i + ": expected NAME=FILE.npy");
              }
              job.inputs.emplace_back(i.substr(0, equals), i.substr(equals + 1));
            }
            const Json outputs = RunJob(job);
            if (common.json) {
              PrintJson(outputs);
            } else {
              for (const Json& output : outputs) fmt::print("{}\n", Line(output));
            }
            return 0;
          }};
}

}  // namespace octet::cli
