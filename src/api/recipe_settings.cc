// Keys of a recipe replaced one by one, as the command line gives them.
#include <algorithm>
#include <set>

#include "base/error.h"
#include "octet/octet.h"

namespace octet {
namespace {

std::string Quoted(const std::string& value) {
  std::string text = "'";
  for (const char c : value) text += c == '\'' ? std::string("''") : std::string(1, c);
  return text + "'";
}

std::string Trim(const std::string& text) {
  const auto begin = text.find_first_not_of(' ');
  return begin == std::string::npos ? ""
                                    : text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

// "a + b": both.
std::vector<std::string> Keys(const std::string& text) {
  std::vector<std::string> keys;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('+', begin), text.size());
    keys.push_back(Trim(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return keys;
}

}  // namespace

Recipe WithSettings(const Recipe& recipe, const std::vector<std::string>& settings) {
  if (settings.empty()) return recipe;
  std::vector<std::pair<std::string, std::string>> values;
  std::string rules, given;
  std::set<std::string> seen;
  for (const std::string& setting : settings) {
    given += Cat(given.empty() ? "" : " ", setting);
    const size_t equals = setting.find('=');
    const std::string left = Trim(setting.substr(0, equals));
    const auto refuse = [&](const char* what) {
      Fail(ErrorCode::kInvalidArgument, "setting '", setting, "' ", what,
           "; expected KEY=VALUE, KEY+KEY=VALUE or layers.GLOB.KEY=VALUE with keys of a recipe");
    };
    if (equals == std::string::npos) refuse("has no value");
    const std::string value = Quoted(Trim(setting.substr(equals + 1)));
    if (left.starts_with("layers.")) {
      const size_t dot = left.rfind('.');
      if (dot <= 7 || dot + 1 == left.size()) refuse("is incomplete");
      rules += Cat("  - match: ", Quoted(left.substr(7, dot - 7)), "\n    ", left.substr(dot + 1),
                   ": ", value, "\n");
      continue;
    }
    for (const std::string& key : Keys(left)) {
      if (key.empty()) refuse("lacks a key");
      if (key == "preset") refuse("names a preset, which --recipe takes");
      if (!seen.insert(key).second) refuse("sets a key again");
      values.emplace_back(key, value);
    }
  }
  // Lines of keys, then of rules: replaced in their place, so that the rest is as it was.
  std::string text, layers;
  bool in_layers = false;
  const std::string yaml = recipe.ToYaml();
  for (size_t begin = 0; begin < yaml.size();) {
    const size_t end = yaml.find('\n', begin);
    const std::string line = yaml.substr(begin, end - begin);
    begin = end + 1;
    in_layers = in_layers || line == "layers:";
    if (in_layers) {
      layers += line + "\n";
    } else if (!seen.contains(line.substr(0, line.find(':')))) {
      text += line + "\n";
    }
  }
  for (const auto& [key, value] : values) text += Cat(key, ": ", value, "\n");
  if (!rules.empty() && layers.empty()) layers = "layers:\n";
  return Recipe::Parse(text + layers + rules, Cat("recipe '", recipe.name, "' with ", given));
}

}  // namespace octet
