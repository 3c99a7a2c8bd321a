#include <filesystem>

#include "base/error.h"
#include "report/document.h"

namespace octet {
namespace {

using nlohmann::ordered_json;

ordered_json EmptyPoint(const std::string& label) {
  return {{"kind", "point"},
          {"model", ""},
          {"block", ""},
          {"label", label},
          {"status", "done"},
          {"error", ""},
          {"analyze_note", ""},
          {"warnings", ordered_json::array()},
          {"settings", ordered_json::object()},
          {"recipe_values", ordered_json::object()},
          {"recipe", ""},
          {"metrics", ordered_json::object()},
          {"samples", 0},
          {"seconds", nullptr},
          {"latency_s", nullptr},
          {"cost", nullptr},
          {"layer_set", 0},
          {"layers", ordered_json::array()},
          {"ranges", ordered_json::object()},
          {"smoothing", ordered_json::array()},
          {"before", -1},
          {"after", -1}};
}

ordered_json Figure(const ordered_json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number() ? Rounded(it->get<double>()) : ordered_json(nullptr);
}

std::string Text(const ordered_json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

ordered_json RangeOf(const ordered_json& a) {
  return {{"lo", Figure(a, "lo")},       {"hi", Figure(a, "hi")},
          {"scale", Figure(a, "scale")}, {"format", Text(a, "format")},
          {"method", Text(a, "method")}, {"clipped", Figure(a, "clipped")}};
}

ordered_json Document(const std::string& kind, ordered_json point, ordered_json layer_set,
                      ordered_json facts, ordered_json views = ordered_json::array()) {
  return {{"kind", kind},
          {"subtitle", ""},
          {"footer", "Made by octet report."},
          {"facts", std::move(facts)},
          {"points", ordered_json::array({std::move(point)})},
          {"layer_sets", ordered_json::array({std::move(layer_set)})},
          {"views", std::move(views)}};
}

ordered_json OfAnalyze(const ordered_json& run) {
  ordered_json point = EmptyPoint("Layer errors");
  ordered_json names = ordered_json::array();
  for (const auto& l : run.at("layers")) {
    names.push_back({{"node", Text(l, "node")}, {"op", Text(l, "op")}});
    point["layers"].push_back({Figure(l, "local_sqnr_db"), Figure(l, "accumulated_sqnr_db"),
                               Figure(l, "l1"), Figure(l, "cosine"), Figure(l, "saturated")});
  }
  ordered_json facts = ordered_json::array();
  facts.push_back({std::to_string(names.size()), "layers compared"});
  facts.push_back({std::to_string(run.value("samples", 0)), "samples"});
  const auto& ranking = run.at("ranking");
  if (!ranking.empty() && ranking[0].is_number_unsigned() &&
      ranking[0].get<size_t>() < names.size()) {
    const auto worst = ranking[0].get<size_t>();
    const auto& db = run.at("layers").at(worst).value("local_sqnr_db", ordered_json());
    if (db.is_number())
      facts.push_back({Rounded(db.get<double>()).dump() + " dB",
                       "worst alone: " + names[worst].at("node").get<std::string>()});
  }
  return Document("analyze", std::move(point), std::move(names), std::move(facts));
}

// {"value": {...}} from the list that octet quantize --json --views prints.
ordered_json ViewsOf(const ordered_json& list) {
  ordered_json views = ordered_json::object();
  for (const auto& v : list) {
    views[Text(v, "value")] = {{"lo", Figure(v, "lo")},
                               {"hi", Figure(v, "hi")},
                               {"absmax", v.at("absmax")},
                               {"counts", v.at("counts")}};
  }
  return views;
}

ordered_json OfQuantize(const ordered_json& run) {
  ordered_json point = EmptyPoint("Quantization");
  for (const auto& a : run.at("activations")) point["ranges"][Text(a, "value")] = RangeOf(a);
  for (const auto& s : run.value("smoothing", ordered_json::array())) {
    ordered_json errors = ordered_json::array();
    for (const auto& e : s.value("table", ordered_json::array()))
      errors.push_back({Figure(e, "alpha"), Figure(e, "error")});
    point["smoothing"].push_back({{"group", Text(s, "group")},
                                  {"round", s.value("round", 1)},
                                  {"applied", s.value("applied", false)},
                                  {"alpha", Figure(s, "alpha")},
                                  {"errors", errors}});
  }
  point["warnings"] = run.value("warnings", ordered_json::array());
  ordered_json views = ordered_json::array();
  if (run.contains("views")) {
    views.push_back(ViewsOf(run["views"].at("before")));
    point["before"] = 0;
    if (const auto& after = run["views"].at("after"); !after.empty()) {
      views.push_back(ViewsOf(after));
      point["after"] = 1;
    }
  }
  ordered_json facts = ordered_json::array();
  facts.push_back(
      {std::to_string(run.value("layers", ordered_json::array()).size()), "operators quantized"});
  facts.push_back({std::to_string(run.value("samples", 0)), "calibration samples"});
  if (run.contains("macs_int8_fraction") && run["macs_int8_fraction"].is_number()) {
    facts.push_back({Rounded(100 * run["macs_int8_fraction"].get<double>()).dump() + " %",
                     "of the multiply-adds in INT8"});
  }
  return Document("quantize", std::move(point), ordered_json::array(), std::move(facts),
                  std::move(views));
}

ordered_json OfManifest(const ordered_json& run) {
  ordered_json point = EmptyPoint("Manifest");
  for (const auto& [name, a] : run.at("activations").items()) point["ranges"][name] = RangeOf(a);
  point["recipe"] = Text(run, "recipe");
  ordered_json facts = ordered_json::array();
  facts.push_back({Text(run, "octet"), "version of Octet, " + Text(run, "isa")});
  facts.push_back({std::to_string(run.value("samples", 0)), "calibration samples"});
  facts.push_back({Text(run, "model_sha256").substr(0, 12), "SHA-256 of the model begins so"});
  return Document("quantize", std::move(point), ordered_json::array(), std::move(facts));
}

}  // namespace

ReportDocument DocumentOfJson(const std::string& path, const std::string& text) {
  const ordered_json run = ordered_json::parse(text, nullptr, false);
  if (run.is_discarded() || !run.is_object()) {
    Fail(ErrorCode::kBadFile, "report: '", path,
         "' is neither a sweep's database nor a JSON object");
  }
  ReportDocument document;
  document.title = std::filesystem::path(path).stem().string();
  try {
    const auto activations = run.find("activations");
    if (run.contains("ranking") && run.contains("layers")) {
      document.data = OfAnalyze(run);
    } else if (activations != run.end() && activations->is_array()) {
      document.data = OfQuantize(run);
    } else if (activations != run.end() && activations->is_object()) {
      document.data = OfManifest(run);
    } else {
      Fail(ErrorCode::kBadFile, "report: '", path,
           "' is JSON, but none that octet analyze or octet quantize prints (it has neither "
           "'ranking' nor 'activations')");
    }
  } catch (const nlohmann::json::exception& e) {
    Fail(ErrorCode::kBadFile, "report: '", path, "': ", e.what());
  }
  return document;
}

}  // namespace octet
