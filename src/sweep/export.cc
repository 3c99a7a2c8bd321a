#include "sweep/export.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"

namespace octet {
namespace {

using nlohmann::ordered_json;

// The shortest text that reads back as the same double; empty for what is not finite.
std::string Number(double v) {
  if (!std::isfinite(v)) return {};
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, v).ptr;
  return {text, end};
}

std::string Positive(double v) { return v < 0 ? std::string() : Number(v); }

// Appends a cell, quoted where it has to be.
void Append(std::string& row, const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) {
    row.append(text);
    return;
  }
  row.push_back('"');
  for (char c : text) {
    if (c == '"') row.push_back('"');
    row.push_back(c);
  }
  row.push_back('"');
}

std::string Row(const std::vector<std::string>& cells) {
  std::string row;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) row.push_back(',');
    Append(row, cells[i]);
  }
  row.append("\r\n");
  return row;
}

ordered_json Finite(double v) { return std::isfinite(v) ? ordered_json(v) : ordered_json(nullptr); }

}  // namespace

std::string PointsAsCsv(const SweepDatabase& database) {
  const auto points = database.Points();
  std::vector<std::string> keys;  // in order of appearance
  std::set<std::string> metrics;
  for (const PointRecord& p : points) {
    for (const auto& [key, value] : p.settings) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
    for (const auto& [name, m] : p.metrics) metrics.insert(name);
  }
  std::vector<std::string> header = {"sweep", "block", "ordinal", "model", "kind", "status"};
  header.insert(header.end(), keys.begin(), keys.end());
  for (const auto& m : metrics) header.insert(header.end(), {m, m + "_lo", m + "_hi"});
  for (const char* name :
       {"samples", "macs_int8_fraction", "seconds", "latency_s", "cost", "error", "id"})
    header.emplace_back(name);
  std::string csv = Row(header);
  for (const PointRecord& p : points) {
    std::vector<std::string> row = {p.sweep, p.block, std::to_string(p.ordinal),
                                    p.model, p.kind,  NameOf(p.status)};
    for (const auto& key : keys) {
      const auto it = std::find_if(p.settings.begin(), p.settings.end(),
                                   [&](const auto& s) { return s.first == key; });
      row.push_back(it == p.settings.end() ? std::string() : it->second);
    }
    for (const auto& name : metrics) {
      const auto it = p.metrics.find(name);
      const bool there = it != p.metrics.end();
      row.push_back(there ? Number(it->second.value) : "");
      row.push_back(there ? Number(it->second.lo) : "");
      row.push_back(there ? Number(it->second.hi) : "");
    }
    row.push_back(std::to_string(p.samples));
    row.push_back(Number(p.macs_int8_fraction));
    row.push_back(Number(p.seconds));
    row.push_back(Positive(p.latency_s));
    row.push_back(Positive(p.cost));
    row.push_back(p.error);
    row.push_back(p.id);
    csv += Row(row);
  }
  return csv;
}

std::string PointsAsJson(const SweepDatabase& database) {
  ordered_json points = ordered_json::array();
  for (const PointRecord& p : database.Points()) {
    ordered_json j = {
        {"id", p.id},       {"kind", p.kind},   {"sweep", p.sweep},          {"block", p.block},
        {"model", p.model}, {"label", p.label}, {"status", NameOf(p.status)}};
    auto& settings = j["settings"] = ordered_json::object();
    for (const auto& [key, value] : p.settings) settings[key] = value;
    if (!p.error.empty()) j["error"] = p.error;
    if (!p.analyze_note.empty()) j["analyze_note"] = p.analyze_note;
    auto& metrics = j["metrics"] = ordered_json::object();
    for (const auto& [name, m] : p.metrics)
      metrics[name] = {{"value", Finite(m.value)}, {"lo", Finite(m.lo)}, {"hi", Finite(m.hi)}};
    auto& layers = j["layers"] = ordered_json::array();
    for (const auto& l : database.Layers(p.id)) {
      layers.push_back({{"node", l.node},
                        {"op", l.op},
                        {"local_sqnr_db", Finite(l.local_sqnr_db)},
                        {"accumulated_sqnr_db", Finite(l.accumulated_sqnr_db)},
                        {"l1", Finite(l.l1)},
                        {"cosine", Finite(l.cosine)},
                        {"saturated", Finite(l.saturated)}});
    }
    j["samples"] = p.samples;
    j["macs_int8_fraction"] = Finite(p.macs_int8_fraction);
    j["seconds"] = Finite(p.seconds);
    if (p.latency_s >= 0) j["latency_s"] = p.latency_s;
    if (p.cost >= 0) j["cost"] = p.cost;
    if (!p.warnings.empty()) j["warnings"] = p.warnings;
    j["recipe"] = p.recipe;
    j["model_sha256"] = p.model_sha256;
    j["calibration_sha256"] = p.calibration_sha256;
    j["evaluation_sha256"] = p.evaluation_sha256;
    j["version"] = p.version;
    j["isa"] = p.isa;
    points.push_back(std::move(j));
  }
  const ordered_json all = {{"name", database.Meta("name")}, {"points", points}};
  return all.dump(2, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace octet
