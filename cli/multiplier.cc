#include <fmt/core.h>

#include <algorithm>

#include "command.h"
#include "octet/multipliers.h"

namespace octet::cli {
namespace {

struct Args {
  std::vector<std::string> multipliers;
  std::string compare, table, output;
  MultiplierBiases biases;
  bool list = false;
};

int PrintKinds(bool json) {
  const auto kinds = MultiplierKinds();
  if (json) {
    Json all = Json::array();
    for (const auto& k : kinds)
      all.push_back({{"kind", k.kind}, {"meaning", k.meaning}, {"example", k.example}});
    PrintJson(all);
    return 0;
  }
  Table table({"kind", "meaning", "example"}, {0, 1, 2});
  for (const auto& k : kinds) table.Add({k.kind, k.meaning, k.example});
  table.Print();
  return 0;
}

Json ToJson(const MultiplierFacts& f) {
  Json json = {{"multiplier", f.multiplier},
               {"x_format", f.x_format},
               {"w_format", f.w_format},
               {"x_bias", f.x_bias},
               {"w_bias", f.w_bias},
               {"result_bias", f.result_bias},
               {"unit", f.unit}};
  if (f.mantissas) {
    json["mantissas"] = {{"pairs", f.mantissas->pairs},
                         {"inexact", f.mantissas->inexact},
                         {"rmse_percent", f.mantissas->rmse},
                         {"bias_percent", f.mantissas->bias},
                         {"largest_percent", f.mantissas->largest}};
    if (f.mantissas->differing) json["mantissas"]["differing"] = *f.mantissas->differing;
  }
  json["codes"] = {{"pairs", f.pairs},
                   {"inexact", f.inexact},
                   {"zero", f.zero},
                   {"exact_rms", f.exact_rms},
                   {"rmse", f.rmse},
                   {"bias", f.bias},
                   {"largest_error", f.largest_error},
                   {"largest", f.largest}};
  if (f.differing) json["codes"]["differing"] = *f.differing;
  return json;
}

std::string CountOrDash(const std::optional<int64_t>& count) {
  return count ? fmt::format("{}", *count) : "-";
}

// Several beside each other: one line each.
int Describe(const Args& args, bool json) {
  std::vector<MultiplierFacts> all;
  for (const std::string& m : args.multipliers)
    all.push_back(DescribeMultiplier(m, args.biases, args.compare));
  if (json) {
    Json list = Json::array();
    for (const auto& f : all) list.push_back(ToJson(f));
    PrintJson(list.size() == 1 ? list[0] : list);
    return 0;
  }
  std::vector<std::string> header = {"multiplier", "pairs", "inexact", "RMSE %", "bias %", "max %"};
  if (!args.compare.empty()) header.push_back("unlike " + args.compare);
  Table mantissas(header);
  for (const auto& f : all) {
    if (!f.mantissas) continue;
    std::vector<std::string> row = {f.multiplier,
                                    fmt::format("{}", f.mantissas->pairs),
                                    fmt::format("{}", f.mantissas->inexact),
                                    fmt::format("{:.3f}", f.mantissas->rmse),
                                    fmt::format("{:.3f}", f.mantissas->bias),
                                    fmt::format("{:.2f}", f.mantissas->largest)};
    if (!args.compare.empty()) row.push_back(CountOrDash(f.mantissas->differing));
    mantissas.Add(row);
  }
  if (std::any_of(all.begin(), all.end(), [](const auto& f) { return f.mantissas.has_value(); })) {
    fmt::print("Errors relative to the exact product, all pairs of normal mantissas:\n");
    mantissas.Print();
    fmt::print("\n");
  }
  fmt::print("All pairs of codes, real numbers:\n");
  header = {"multiplier", "bias x",  "w",    "result",     "unit",     "largest",
            "zero",       "inexact", "RMSE", "mean error", "max error"};
  if (!args.compare.empty()) header.push_back("unlike " + args.compare);
  Table codes(header);
  for (const auto& f : all) {
    std::vector<std::string> row = {f.multiplier,
                                    fmt::format("{}", f.x_bias),
                                    fmt::format("{}", f.w_bias),
                                    fmt::format("{}", f.result_bias),
                                    fmt::format("{:.6g}", f.unit),
                                    fmt::format("{:.6g}", f.largest),
                                    fmt::format("{}", f.zero),
                                    fmt::format("{}", f.inexact),
                                    fmt::format("{:.4g}", f.rmse),
                                    fmt::format("{:.4g}", f.bias),
                                    fmt::format("{:.4g}", f.largest_error)};
    if (!args.compare.empty()) row.push_back(CountOrDash(f.differing));
    codes.Add(row);
  }
  codes.Print();
  return 0;
}

int PrintTable(const Args& args, bool json) {
  if (args.multipliers.size() != 1)
    throw Error(ErrorCode::kInvalidArgument, "multiplier --table: expected one multiplier");
  const MultiplierTable t = TableOfMultiplier(args.multipliers[0], args.table, args.biases);
  if (!args.output.empty()) WriteMultiplierTable(args.output, t);
  if (json) {
    Json result = {{"title", t.title}, {"rows", t.rows}, {"columns", t.columns}, {"unit", t.unit}};
    if (args.output.empty()) {
      result["values"] = t.values;
    } else {
      result["file"] = args.output;
    }
    PrintJson(result);
    return 0;
  }
  if (!args.output.empty()) {
    fmt::print("{}: {}, {} x {}\n", args.output, t.title, t.rows, t.columns);
    return 0;
  }
  for (int64_t r = 0; r < t.rows; ++r) {
    for (int64_t c = 0; c < t.columns; ++c)
      fmt::print("{}{}", c == 0 ? "" : ",", t.values[static_cast<size_t>(r * t.columns + c)]);
    fmt::print("\n");
  }
  return 0;
}

}  // namespace

Command AddMultiplier(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand(
      "multiplier", "Approximate multipliers: their errors and tables, without a model");
  app->footer(
      "Multipliers are written kind:FORMAT,key=value,...; --list shows the kinds. Tables:\n"
      "  F        what an addition of codes lacks of the exact product, by mantissas\n"
      "  C        compensation by the d highest bits of both mantissas\n"
      "  lut      the same, one entry for each pair of d bits: what hardware stores\n"
      "  T        F - C\n"
      "  product  products of all codes\n"
      "Examples:\n"
      "  octet multiplier --list\n"
      "  octet multiplier hw:e3m4 hw:e3m4,d=3 --compare v9:e3m4,d=3\n"
      "  octet multiplier hw:e3m4,d=3 --table lut --output comp.h\n"
      "  octet multiplier v9:e3m4,d=3 --bias-x 5 --bias-w 9 --bias-result 6 --table product -o "
      "t.npy\n"
      "  octet multiplier table:t.npy,x=e3m4,w=e3m4");
  auto args = std::make_shared<Args>();
  app->add_option("MULTIPLIER", args->multipliers, "Multipliers to describe");
  app->add_flag("--list", args->list, "Print the kinds of multipliers");
  auto* table = app->add_option("--table", args->table, "Print a table: F, C, lut, T or product");
  app->add_option("--output,-o", args->output,
                  "Write the table: .csv, .npy, .h (C), .hex (Verilog)")
      ->needs(table);
  app->add_option("--compare", args->compare, "Count the products unlike this multiplier's")
      ->excludes(table);
  app->add_option("--bias-x", args->biases.x, "Exponent bias of x; the format's own if not given");
  app->add_option("--bias-w", args->biases.w, "Exponent bias of the weights");
  app->add_option("--bias-result", args->biases.result, "Exponent bias of products");
  return {app, [=, &common] {
            if (args->list) return PrintKinds(common.json);
            if (args->multipliers.empty())
              throw Error(ErrorCode::kInvalidArgument,
                          "multiplier: expected a multiplier, such as hw:e3m4,d=3, or --list");
            return args->table.empty() ? Describe(*args, common.json)
                                       : PrintTable(*args, common.json);
          }};
}

}  // namespace octet::cli
