#include "numerics/approx_multiplier.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <set>
#include <vector>

#include "base/error.h"
#include "numerics/number_format.h"

namespace octet {
namespace {

constexpr std::string_view kExpected =
    "expected exact, hw:d=3,overflow=saturate|wrap|unbounded,underflow=flush|keep|wrap|gradual,"
    "s2n=on|off, v9:d=3,s2nn2s=on|off,quant=on|off,approx=on|off,clip=on|off, "
    "qamaa:each_add=on|off "
    "or table:FILE.npy,x=int8,w=int8,unit=1 (keys may be left out)";

struct Key {
  std::string_view name;
  std::function<bool(Multiplier&, std::string_view)> set;  // false: no such value
  std::function<std::string(const Multiplier&)> get;       // as `set` takes it
  std::string_view values;
};

template <typename Enum>
struct Choice {
  Enum value;
  std::string_view name;
};

constexpr Choice<MultiplierKind> kKinds[] = {{MultiplierKind::kExact, "exact"},
                                             {MultiplierKind::kHw, "hw"},
                                             {MultiplierKind::kV9, "v9"},
                                             {MultiplierKind::kQamaa, "qamaa"},
                                             {MultiplierKind::kTable, "table"}};
constexpr Choice<AdderOverflow> kOverflows[] = {{AdderOverflow::kSaturate, "saturate"},
                                                {AdderOverflow::kWrap, "wrap"},
                                                {AdderOverflow::kUnbounded, "unbounded"}};
constexpr Choice<AdderUnderflow> kUnderflows[] = {{AdderUnderflow::kFlush, "flush"},
                                                  {AdderUnderflow::kKeep, "keep"},
                                                  {AdderUnderflow::kWrap, "wrap"},
                                                  {AdderUnderflow::kGradual, "gradual"}};
constexpr Choice<bool> kSwitch[] = {{true, "on"}, {false, "off"}};

template <typename Enum, size_t N>
Key ChoiceKey(std::string_view name, Enum Multiplier::*field, const Choice<Enum> (&choices)[N],
              std::string_view values) {
  return {name,
          [=, &choices](Multiplier& m, std::string_view text) {
            for (const auto& choice : choices) {
              if (choice.name != text) continue;
              m.*field = choice.value;
              return true;
            }
            return false;
          },
          [=, &choices](const Multiplier& m) {
            for (const auto& choice : choices)
              if (choice.value == m.*field) return std::string(choice.name);
            return std::string();
          },
          values};
}

Key SwitchKey(std::string_view name, bool Multiplier::*field) {
  return ChoiceKey(name, field, kSwitch, "on or off");
}

Key DKey() {
  return {"d",
          [](Multiplier& m, std::string_view text) {
            if (text == "none") text = "0";
            if (text.size() != 1 || text[0] < '0' || text[0] > '7') return false;
            m.d = text[0] - '0';
            return true;
          },
          [](const Multiplier& m) { return std::to_string(m.d); }, "none or 0 to 7"};
}

Key TextKey(std::string_view name, std::string Multiplier::*field) {
  return {name,
          [=](Multiplier& m, std::string_view text) {
            m.*field = std::string(text);
            return !text.empty();
          },
          [=](const Multiplier& m) { return m.*field; }, "a number format"};
}

Key UnitKey() {
  return {"unit",
          [](Multiplier& m, std::string_view text) {
            const char* end = text.data() + text.size();
            const auto [stop, error] = std::from_chars(text.data(), end, m.table_unit);
            return error == std::errc() && stop == end && std::isfinite(m.table_unit) &&
                   m.table_unit > 0;
          },
          [](const Multiplier& m) {
            char digits[32];
            const auto [end, error] = std::to_chars(digits, digits + sizeof digits, m.table_unit);
            OCTET_INVARIANT(error == std::errc());
            return std::string(digits, end);
          },
          "a positive number"};
}

const std::vector<Key>& KeysOf(MultiplierKind kind) {
  static const std::vector<Key> kHw = {
      DKey(),
      ChoiceKey("overflow", &Multiplier::overflow, kOverflows, "saturate, wrap or unbounded"),
      ChoiceKey("underflow", &Multiplier::underflow, kUnderflows, "flush, keep, wrap or gradual"),
      SwitchKey("s2n", &Multiplier::s2n)};
  static const std::vector<Key> kV9 = {
      DKey(), SwitchKey("s2nn2s", &Multiplier::s2nn2s), SwitchKey("quant", &Multiplier::quant),
      SwitchKey("approx", &Multiplier::approx), SwitchKey("clip", &Multiplier::clip)};
  static const std::vector<Key> kQamaa = {SwitchKey("each_add", &Multiplier::each_add)};
  static const std::vector<Key> kTable = {TextKey("x", &Multiplier::x),
                                          TextKey("w", &Multiplier::w), UnitKey()};
  static const std::vector<Key> kNone;
  switch (kind) {
    case MultiplierKind::kHw:
      return kHw;
    case MultiplierKind::kV9:
      return kV9;
    case MultiplierKind::kQamaa:
      return kQamaa;
    case MultiplierKind::kTable:
      return kTable;
    case MultiplierKind::kExact:
      break;
  }
  return kNone;
}

std::string_view KindName(MultiplierKind kind) {
  for (const auto& choice : kKinds)
    if (choice.value == kind) return choice.name;
  return "unknown";
}

std::string NamesOf(const std::vector<Key>& keys) {
  std::string names;
  for (const Key& key : keys) names += Cat(names.empty() ? "" : ", ", key.name);
  return names.empty() ? "no keys" : names;
}

// Cuts the text before the first comma off.
std::string_view TakeItem(std::string_view* rest) {
  const size_t comma = rest->find(',');
  const std::string_view item = rest->substr(0, comma);
  *rest = comma == std::string_view::npos ? std::string_view() : rest->substr(comma + 1);
  return item;
}

// Cuts a table's file off: up to the comma behind its extension, since folders may have commas,
// too; without one, up to the first.
std::string_view TakeFile(std::string_view* rest) {
  size_t end = std::string_view::npos;
  for (const std::string_view extension : {".npy", ".csv"}) {
    const size_t at = rest->find(std::string(extension) + ',');
    if (at != std::string_view::npos) end = std::min(end, at + extension.size());
    if (rest->ends_with(extension)) end = std::min(end, rest->size());
  }
  if (end == std::string_view::npos) {
    const std::string_view file = TakeItem(rest);
    return file.find('=') == std::string_view::npos ? file : std::string_view();
  }
  const std::string_view file = rest->substr(0, end);
  *rest = rest->substr(std::min(end + 1, rest->size()));
  return file;
}

// A number format's name, as far as one can tell before it is parsed.
bool LooksLikeAFormat(std::string_view item) {
  for (const std::string_view prefix : {"int", "uint", "float"})
    if (item.starts_with(prefix)) return true;
  if (item.starts_with('u')) item.remove_prefix(1);
  return item.size() > 1 && item[0] == 'e' && item[1] >= '0' && item[1] <= '9';
}

void SetFormat(std::string_view text, std::string_view item, Multiplier* m) {
  const auto refuse = [&](const std::string& why) {
    Fail(ErrorCode::kInvalidArgument, "multiplier '", text, "': ", why);
  };
  if (m->kind == MultiplierKind::kTable)
    refuse(Cat("of which operand is ", item, "? Write x=", item, " or w=", item));
  if (!m->format.empty()) refuse(Cat("names two formats, ", m->format, " and ", item));
  NumberFormat format;
  try {
    format = NumberFormat::Parse(item);
  } catch (const Error& e) {
    refuse(e.what());
  }
  if (!format.is_float())
    refuse(Cat(KindName(m->kind), " multiplies codes of float formats, such as e4m3; of ", item,
               " bring a table, table:FILE.npy,x=", item, ",w=", item));
  if (item.find(':') != std::string_view::npos)
    refuse(Cat("expected a format without a bias rule: ", item.substr(0, item.find(':'))));
  m->format = format.Name();
}

void SetKey(std::string_view text, std::string_view item, std::set<std::string_view>* given,
            Multiplier* m) {
  if (LooksLikeAFormat(item)) return SetFormat(text, item, m);
  const size_t equals = item.find('=');
  const auto& keys = KeysOf(m->kind);
  for (const Key& key : keys) {
    if (equals == std::string_view::npos || key.name != item.substr(0, equals)) continue;
    if (!given->insert(key.name).second)
      Fail(ErrorCode::kInvalidArgument, "multiplier '", text, "': ", key.name, " is given twice");
    if (key.set(*m, item.substr(equals + 1))) return;
    Fail(ErrorCode::kInvalidArgument, "multiplier '", text, "': ", key.name, " is '",
         item.substr(equals + 1), "'; expected ", key.values);
  }
  Fail(ErrorCode::kInvalidArgument, "multiplier '", text, "': '", item, "' is no key=value of ",
       KindName(m->kind), ", which has ", NamesOf(keys));
}

}  // namespace

Multiplier Multiplier::Parse(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  Multiplier m;
  bool known = false;
  for (const auto& choice : kKinds) {
    if (choice.name != name) continue;
    m.kind = choice.value;
    known = true;
  }
  if (!known)
    Fail(ErrorCode::kInvalidArgument, "multiplier '", text, "': unknown kind '", name, "'; ",
         kExpected);
  std::string_view rest =
      colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (m.kind == MultiplierKind::kTable) {
    m.file = std::string(TakeFile(&rest));
    if (m.file.empty())
      Fail(ErrorCode::kInvalidArgument, "multiplier '", text,
           "': no file; expected table:FILE.npy or table:FILE.csv, keys behind it");
  }
  std::set<std::string_view> given;
  while (!rest.empty()) SetKey(text, TakeItem(&rest), &given, &m);
  if (m.kind == MultiplierKind::kV9 && !m.quant && m.clip)
    Fail(ErrorCode::kInvalidArgument, "multiplier '", text,
         "': clip=on saturates the roundings that quant=off leaves out; give one of them");
  if (m.kind == MultiplierKind::kV9 && !m.approx && m.d != 0)
    Fail(ErrorCode::kInvalidArgument, "multiplier '", text, "': d=", m.d,
         " has no effect with approx=off, which subtracts no table; give one of them");
  return m;
}

std::string Multiplier::Name() const {
  std::string text(KindName(kind));
  char separator = ':';
  if (kind == MultiplierKind::kTable) {
    text += Cat(separator, file);
    separator = ',';
  }
  if (!format.empty()) {
    text += Cat(separator, format);
    separator = ',';
  }
  const Multiplier defaults;
  for (const Key& key : KeysOf(kind)) {
    const std::string value = key.get(*this);
    if (value == key.get(defaults)) continue;
    text += Cat(separator, key.name, "=", value);
    separator = ',';
  }
  return text;
}

}  // namespace octet
