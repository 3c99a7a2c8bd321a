#include <fmt/core.h>

#include <filesystem>
#include <fstream>
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
    written.push_back({{"name", arrays[i].name}, {"file", path}});
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
  Json written = Json::array();
  if (!job.output_dir.empty()) written = WriteArrays(job.output_dir, arrays, 0, outputs);
  if (!job.dump_codes.empty()) {
    const Json codes = WriteArrays(job.dump_codes, arrays, outputs, arrays.size());
    WriteText((std::filesystem::path(job.dump_codes) / "codes.json").string(),
              codes.dump(1) + "\n");
  }
  return written;
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
  app->add_option("--output-dir", a->job.output_dir, "Folder for one .npy per output");
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
            const Json written = RunJob(job);
            if (common.json) {
              PrintJson(written);
            } else {
              for (const auto& w : written) {
                fmt::print("{}: {}\n", w.at("name").get<std::string>(),
                           w.at("file").get<std::string>());
              }
            }
            return 0;
          }};
}

}  // namespace octet::cli
