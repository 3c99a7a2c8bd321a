#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <system_error>

#include "command.h"

namespace {

bool IsCommand(const std::vector<octet::cli::Command>& commands, const std::string& word) {
  return std::any_of(commands.begin(), commands.end(),
                     [&](const auto& command) { return command.app->get_name() == word; });
}

std::string CommandNames(const std::vector<octet::cli::Command>& commands) {
  std::string names;
  for (const auto& command : commands) {
    names += (names.empty() ? "" : ", ") + command.app->get_name();
  }
  return names;
}

int FailToPrint(const std::string& why) {
  fmt::print(stderr, "octet: error: cannot write standard output: {}\n", why);
  return octet::cli::ExitCodeOf(octet::ErrorCode::kIo);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace octet::cli;
  // A file beyond the user's limit (ulimit -f) is then a refused write: told, its remains removed.
  std::signal(SIGXFSZ, SIG_IGN);
  CLI::App root{"Octet: 8-bit quantization of ONNX models, and the runtime of the result"};
  root.name("octet");
  root.set_version_flag("--version", octet::Version());
  root.require_subcommand(1);
  root.footer("octet COMMAND --help shows a command's options and an example.\n\n" +
              ExitCodeHelp());

  Common common;
  const std::vector<Command> commands = {
      AddInspect(root, common),    AddCalibrate(root, common), AddQuantize(root, common),
      AddEval(root, common),       AddAnalyze(root, common),   AddVerify(root, common),
      AddAudit(root, common),      AddBench(root, common),     AddFormat(root, common),
      AddMultiplier(root, common), AddSweep(root, common),     AddReport(root, common),
      AddRun(root, common),        AddDemo(root, common),      AddInfo(root, common)};
  for (const Command& command : commands) AddCommonOptions(command.app, common);

  const std::string word = argc > 1 ? argv[1] : "";
  if (!IsCommand(commands, word) && word != "--help" && word != "-h" && word != "--version") {
    fmt::print(stderr, "octet: error: {}; expected one of {}\n",
               word.empty() ? "no command" : "unknown command '" + word + "'",
               CommandNames(commands));
    return ExitCodeOf(octet::ErrorCode::kInvalidArgument);
  }
  try {
    root.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return root.exit(e);  // --help, --version
    fmt::print(stderr, "octet: error: {}\noctet {} --help shows the options\n", e.what(), word);
    return ExitCodeOf(octet::ErrorCode::kInvalidArgument);
  }
  int code = ExitCodeOf(octet::ErrorCode::kInternal);
  try {
    for (const Command& command : commands) {
      if (command.app->parsed()) code = command.run();
    }
  } catch (const octet::Error& e) {
    fmt::print(stderr, "octet: error: {}\n", e.what());
    return ExitCodeOf(e.code());
  } catch (const std::system_error& e) {
    // What fmt throws where it cannot print.
    if (std::ferror(stdout) != 0) return FailToPrint(e.code().message());
    fmt::print(stderr, "octet: internal error: {}\n", e.what());
  } catch (const std::exception& e) {
    fmt::print(stderr, "octet: internal error: {}\n", e.what());
  }
  return std::fflush(stdout) == 0 ? code : FailToPrint(std::strerror(errno));
}
