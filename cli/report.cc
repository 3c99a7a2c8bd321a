// octet report.
#include "octet/report.h"

#include <fmt/core.h>

#include "command.h"

namespace octet::cli {

Command AddReport(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand("report", "One self-contained HTML page of a run");
  app->footer(
      "Examples:\n  octet report runs/formats -o report.html\n"
      "  octet analyze float.onnx int8.onnx --data photos/ --json > analyze.json && octet report "
      "analyze.json -o report.html\n"
      "RUN is the database of octet sweep (or its folder), what octet analyze or octet quantize "
      "print with\n--json, or a manifest.");
  struct Args {
    std::string run, output, title;
  };
  auto a = std::make_shared<Args>();
  app->add_option("RUN", a->run, "Database or JSON file")->required();
  app->add_option("-o,--output", a->output, "HTML file to write")->required();
  app->add_option("--title", a->title, "Title of the page");
  return {app, [=, &common] {
            CheckOutput(a->output, {a->run});
            const std::string html = RenderReport(a->run, a->title);
            WriteText(a->output, html);
            if (common.json) {
              PrintJson({{"output", a->output}, {"bytes", html.size()}});
            } else {
              fmt::print("wrote {} ({} KiB)\n", a->output, html.size() / 1024);
            }
            return 0;
          }};
}

}  // namespace octet::cli
