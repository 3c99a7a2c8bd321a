#include "command.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>

namespace octet::cli {

CLI::Validator AtLeast(int64_t least) {
  return {[least](std::string& text) {
            double value = 0;
            const bool holds =
                CLI::detail::lexical_cast(text, value) && value >= static_cast<double>(least);
            return holds ? std::string() : fmt::format("'{}'; expected {} or more", text, least);
          },
          fmt::format("{} OR MORE", least)};
}

CLI::Validator NotNegative() { return AtLeast(0); }

CLI::Validator AboveZero() {
  return {[](std::string& text) {
            double value = 0;
            const bool holds = CLI::detail::lexical_cast(text, value) && value > 0;
            return holds ? std::string() : "'" + text + "'; expected more than 0";
          },
          "ABOVE 0"};
}

void CheckOutput(const std::string& output, const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs) {
    std::error_code error;
    if (input.empty() || !std::filesystem::is_regular_file(input, error) ||
        !std::filesystem::equivalent(input, output, error))
      continue;
    throw Error(ErrorCode::kInvalidArgument, "the file to write, '" + output + "', is the input '" +
                                                 input + "', which would be lost: name another");
  }
}

void AddCommonOptions(CLI::App* app, Common& common) {
  app->add_flag("--json", common.json, "Print the result as JSON");
  app->add_option("--threads", common.threads,
                  "Threads; 0: all cores. Where other programs hold cores, fewer are faster")
      ->check(NotNegative());
}

namespace {

// "x=1x3x224x224", or without a name "1x3x224x224".
std::pair<std::string, std::vector<int64_t>> ParseShape(const std::string& text) {
  const size_t equals = text.rfind('=');
  const bool named = equals != std::string::npos;
  std::string_view rest = std::string_view(text).substr(named ? equals + 1 : 0);
  std::vector<int64_t> dims;
  bool sound = equals != 0;
  for (bool more = true; sound && more;) {
    const size_t end = rest.find('x');
    const std::string_view size = rest.substr(0, end);
    dims.push_back(0);
    const auto [stop, error] = std::from_chars(size.data(), size.data() + size.size(), dims.back());
    sound = error == std::errc() && stop == size.data() + size.size() && dims.back() >= 0;
    more = end != std::string_view::npos;
    if (more) rest.remove_prefix(end + 1);
  }
  if (!sound) {
    throw CLI::ValidationError("--shape", "'" + text +
                                              "': expected NAME=1x3x224x224, sizes of 0 or "
                                              "more with an x between each two");
  }
  return {named ? text.substr(0, equals) : std::string(), std::move(dims)};
}

}  // namespace

void AddShapeOption(CLI::App* app, InputShapes& shapes) {
  const auto take = [&shapes](const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      auto [name, dims] = ParseShape(text);
      if (!shapes.try_emplace(name, std::move(dims)).second) {
        throw CLI::ValidationError("--shape", "'" + text + "': the shape of " +
                                                  (name.empty() ? "the input" : "'" + name + "'") +
                                                  " was given before; expected one per input");
      }
    }
    return true;
  };
  app->add_option("--shape", take,
                  "NAME=1x3x224x224: shape of an input with open sizes; repeatable")
      ->type_name("TEXT")
      ->type_size(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void PrintOpenInputs(const std::vector<std::string>& open_inputs) {
  for (const auto& i : open_inputs) {
    fmt::print(
        "open sizes: {}: what depends on them is not counted; fix them with --shape {}=...\n", i,
        i.substr(0, i.rfind(": ")));
  }
}

void AddDataOptions(CLI::App* app, DataOptions& data, bool required) {
  constexpr const char* kGroup = "Data";
  auto* path = app->add_option(
      "--data", data.path,
      "Folder of images (labels.csv, class folders or flat), .npy, .npz or .safetensors");
  path->group(kGroup);
  if (required) path->required();
  app->add_option("--preset", data.preset, "Preprocessing: none, unit, imagenet-torch, imagenet-tf")
      ->group(kGroup);
  app->add_option("--samples", data.samples, "How many samples to take; -1: all")
      ->check(AtLeast(-1))
      ->group(kGroup);
  app->add_option("--skip", data.skip, "Samples to leave out at the beginning")
      ->check(NotNegative())
      ->group(kGroup);
  app->add_option("--labels", data.labels, "Integer .npy of one label per sample")->group(kGroup);
  app->add_option("--resize", data.resize, "256 (shorter side), 320x240, input, none")
      ->group(kGroup);
  app->add_option("--crop", data.crop, "Center crop: 224, 320x240, none")->group(kGroup);
  app->add_option("--mean", data.mean,
                  "One number or three, by comma; y = (x * scale - mean) / std")
      ->group(kGroup);
  app->add_option("--std", data.std, "One number or three, by comma")->group(kGroup);
  app->add_option("--scale", data.scale, "A number, or a fraction such as 1/255")->group(kGroup);
  app->add_option("--order", data.order, "Channels: rgb, bgr, gray")->group(kGroup);
  app->add_option("--layout", data.layout, "auto, nchw, nhwc")->group(kGroup);
}

void AddNoiseOption(CLI::App* app, DataOptions& data) {
  app->add_flag("--allow-noise", data.allow_noise,
                "Calibrate also where every image is noise (neighbouring pixels uncorrelated)")
      ->group("Data");
}

namespace {

struct ExitCodeRow {
  ErrorCode code;
  int exit;
  const char* meaning;
};

constexpr ExitCodeRow kExitCodes[] = {
    {ErrorCode::kInternal, 1, "internal error: a fault of Octet"},
    {ErrorCode::kInvalidArgument, 2, "wrong option, argument or recipe"},
    {ErrorCode::kBadFile, 3, "a file is not what it claims to be"},
    {ErrorCode::kUnsupported, 4, "well-formed, but outside what Octet does"},
    {ErrorCode::kBadData, 5, "data that cannot give a sound result"},
    {ErrorCode::kIo, 6, "the system refused a read or a write"},
    {ErrorCode::kCheckFailed, kExitCheckFailed, "a verification or audit does not hold"},
};

}  // namespace

int ExitCodeOf(ErrorCode code) {
  for (const auto& row : kExitCodes) {
    if (row.code == code) return row.exit;
  }
  return 1;
}

std::string ExitCodeHelp() {
  std::string text = "Exit codes:\n  0  done\n";
  for (const auto& row : kExitCodes) text += fmt::format("  {}  {}\n", row.exit, row.meaning);
  return text;
}

Progress TerminalProgress() {
  if (isatty(STDERR_FILENO) == 0) return {};
  struct State {
    std::string stage;
    std::chrono::steady_clock::time_point start;
  };
  auto state = std::make_shared<State>();
  return [state](const ProgressEvent& e) {
    const auto now = std::chrono::steady_clock::now();
    if (e.stage != state->stage) {
      state->stage = e.stage;
      state->start = now;
    }
    const double elapsed = std::chrono::duration<double>(now - state->start).count();
    const bool finished = e.total > 0 && e.done >= e.total;
    constexpr int64_t kWidth = 30;
    const int64_t filled = e.total > 0 ? kWidth * e.done / e.total : 0;
    const std::string bar(static_cast<size_t>(filled), '#');
    std::string eta;
    if (!finished && e.done > 0 && e.total > 0) {
      eta = fmt::format("  {:.0f} s left", elapsed / static_cast<double>(e.done) *
                                               static_cast<double>(e.total - e.done));
    }
    fmt::print(stderr, "\r\033[K{:<16} [{:<30}] {}/{}{}{}", e.stage, bar, e.done, e.total, eta,
               finished ? "\r\033[K" : "");
  };
}

Table::Table(std::vector<std::string> header, std::vector<size_t> left) : left_(std::move(left)) {
  rows_.push_back(std::move(header));
}

void Table::Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

void Table::Print() const {
  std::vector<size_t> width;
  for (const auto& row : rows_) {
    width.resize(std::max(width.size(), row.size()), 0);
    for (size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  }
  for (const auto& row : rows_) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      if (c > 0) line += "  ";
      const bool to_left = std::find(left_.begin(), left_.end(), c) != left_.end();
      line += to_left ? fmt::format("{:<{}}", row[c], width[c])
                      : fmt::format("{:>{}}", row[c], width[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }
}

void PrintJson(const Json& json) {
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json Number(const std::optional<double>& value) { return value ? Number(*value) : Json(nullptr); }

std::string Shorten(const std::string& text, size_t width) {
  if (text.size() <= width) return text;
  return "..." + text.substr(text.size() - (width - 3));
}

std::string Seconds(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.1f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.2f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

}  // namespace octet::cli
