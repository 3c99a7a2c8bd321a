#include <fmt/core.h>

#include <cmath>
#include <cstring>

#include "command.h"
#include "octet/formats.h"

namespace octet::cli {
namespace {

struct Args {
  std::vector<std::string> formats;
  bool list = false;
  std::vector<std::string> compare;
  std::string distribution = "gauss";
  std::optional<double> maxval, clip, alpha;
  std::optional<int> bias;
  std::string encode, output;
  bool no_saturate = false;
};

Json ToJson(const FormatFacts& f) {
  Json json = {{"name", f.name}, {"bits", f.bits}, {"float", f.is_float}, {"signed", f.is_signed}};
  if (f.is_float) {
    json["exponent_bits"] = f.exponent_bits;
    json["mantissa_bits"] = f.mantissa_bits;
    json["bias"] = f.bias;
  }
  json["scale"] = f.scale;
  json["max"] = f.max;
  json["min"] = f.min;
  if (f.min_normal > 0) json["min_normal"] = f.min_normal;
  json["min_positive"] = f.min_positive;
  json["dynamic_range_db"] = f.dynamic_range_db;
  json["codes"] = f.codes;
  json["values"] = f.values;
  json["nan_codes"] = f.nan_codes;
  json["infinity_codes"] = f.infinity_codes;
  return json;
}

void Print(const FormatFacts& f) {
  fmt::print("format         {}\n", f.name);
  if (f.is_float) {
    fmt::print("bits           {} ({}{} exponent, {} mantissa), bias {}\n", f.bits,
               f.is_signed ? "sign, " : "", f.exponent_bits, f.mantissa_bits, f.bias);
  } else {
    fmt::print("bits           {}\n", f.bits);
  }
  fmt::print("scale          {:.9g}\n", f.scale);
  fmt::print("largest        {:.9g}\n", f.max);
  fmt::print("lowest         {:.9g}\n", f.min);
  if (f.min_normal > 0) fmt::print("least normal   {:.9g}\n", f.min_normal);
  fmt::print("least above 0  {:.9g}\n", f.min_positive);
  fmt::print("dynamic range  {:.2f} dB ({:.2f} octaves)\n", f.dynamic_range_db,
             std::log2(f.max / f.min_positive));
  fmt::print("codes          {} ({} values, {} NaN, {} infinity)\n", f.codes, f.values, f.nan_codes,
             f.infinity_codes);
}

// NaN and infinity have no JSON number: their names.
Json ValueOf(const FormatCode& c) {
  if (std::isnan(c.value)) return "nan";
  if (std::isinf(c.value)) return c.value < 0 ? "-inf" : "inf";
  return c.value;
}

int List(const Args& args, const GridOptions& grid, bool json) {
  Json all = Json::array();
  for (const std::string& name : args.formats) {
    const FormatFacts facts = DescribeFormat(name, grid);
    const auto codes = FormatCodes(name, grid);
    if (json) {
      Json entry = ToJson(facts);
      Json& list = entry["list"] = Json::array();
      for (const FormatCode& c : codes) {
        list.push_back({{"code", c.code}, {"bits", c.bits}, {"value", ValueOf(c)}});
      }
      all.push_back(entry);
      continue;
    }
    fmt::print("{}: scale {:.9g}\n", facts.name, facts.scale);
    Table table({"code", "bits", "value"}, {1});
    for (const FormatCode& c : codes) {
      const std::string code =
          facts.is_float ? fmt::format("0x{:02x}", c.code) : fmt::format("{}", c.code);
      table.Add({code, c.bits, fmt::format("{:.9g}", c.value)});
    }
    table.Print();
  }
  if (json) PrintJson(all.size() == 1 ? all[0] : all);
  return 0;
}

int Compare(const Args& args, bool json) {
  const FormatComparison c =
      CompareFormats(args.compare, args.distribution, {.clip = args.clip, .alpha = args.alpha});
  if (json) {
    Json rows = Json::array();
    for (const auto& r : c.rows) {
      rows.push_back({{"format", r.format},
                      {"alpha", r.alpha},
                      {"mse", r.mse},
                      {"sqnr_db", Number(r.sqnr_db)},
                      {"raw_db", Number(r.raw_db)},
                      {"dot_mse", r.dot_mse},
                      {"dot_sqnr_db", Number(r.dot_sqnr_db)}});
    }
    PrintJson(
        {{"distribution", c.distribution}, {"clip", c.clip}, {"power", c.power}, {"rows", rows}});
    return 0;
  }
  fmt::print("{} clipped at {:g}, power {:.6g}\n", c.distribution, c.clip, c.power);
  Table table({"format", "alpha", "MSE", "-10 log MSE", "SQNR dB", "dot SQNR dB"});
  for (const auto& r : c.rows) {
    table.Add({r.format, fmt::format("{:.4f}", r.alpha), fmt::format("{:.4e}", r.mse),
               fmt::format("{:.2f}", r.raw_db), fmt::format("{:.2f}", r.sqnr_db),
               fmt::format("{:.2f}", r.dot_sqnr_db)});
  }
  table.Print();
  return 0;
}

template <typename T>
void Store(const std::vector<int32_t>& codes, Array& array) {
  std::vector<T> narrow(codes.size());
  for (size_t i = 0; i < codes.size(); ++i) narrow[i] = static_cast<T>(codes[i]);
  array.bytes.resize(narrow.size() * sizeof(T));
  if (!narrow.empty()) std::memcpy(array.bytes.data(), narrow.data(), array.bytes.size());
}

int Encode(const Args& args, const GridOptions& grid, bool json) {
  if (args.formats.size() != 1 || args.output.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "format --encode: expected one format and --output FILE.npy");
  }
  Array array = ReadNpyArray(args.encode);
  if (array.dtype != "float32") {
    throw Error(ErrorCode::kInvalidArgument, "format --encode: '" + args.encode + "' holds " +
                                                 array.dtype + "; expected float32");
  }
  std::vector<float> values(array.bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), array.bytes.data(), array.bytes.size());
  const FormatFacts facts = DescribeFormat(args.formats[0], grid);
  const auto codes = EncodeValues(args.formats[0], values, grid, !args.no_saturate);
  const bool with_sign = !facts.is_float && facts.is_signed;
  if (facts.bits <= 8) {
    array.dtype = with_sign ? "int8" : "uint8";
    with_sign ? Store<int8_t>(codes, array) : Store<uint8_t>(codes, array);
  } else {
    array.dtype = with_sign ? "int16" : "uint16";
    with_sign ? Store<int16_t>(codes, array) : Store<uint16_t>(codes, array);
  }
  WriteNpyArray(args.output, array);
  if (json) {
    PrintJson({{"format", facts.name}, {"file", args.output}, {"dtype", array.dtype}});
  } else {
    fmt::print("{}: {} codes of {}\n", args.output, codes.size(), facts.name);
  }
  return 0;
}

}  // namespace

Command AddFormat(CLI::App& root, Common& common) {
  auto* app = root.add_subcommand(
      "format", "What a number format holds, and its error on a distribution, without data");
  app->footer(
      "Formats: int8, uint4, int8-narrow; e4m3 (4 exponent, 3 mantissa bits, every code finite),\n"
      "ue4m4 (unsigned), e4m3fn, e4m3fnuz, e5m2fnuz, float8_e5m2, float8_e3m4, float6_e2m3fn, "
      "...;\n"
      "floats with :bias=int, :bias=int-round or :bias=standard. Distributions: uniform, gauss,\n"
      "laplace, student:N with N degrees of freedom.\n"
      "Examples:\n"
      "  octet format e3m4\n"
      "  octet format e3m4 --list --maxval 6\n"
      "  octet format e3m4 --list --bias 5\n"
      "  octet format --compare e5m2,e4m3,e3m4,e2m5,int8 --distribution student:8\n"
      "  octet format e4m3fn --encode x.npy --output codes.npy");
  auto args = std::make_shared<Args>();
  app->add_option("FORMAT", args->formats, "Formats to describe");
  app->add_flag("--list", args->list, "Print every code with its bits and value");
  auto* maxval =
      app->add_option("--maxval", args->maxval, "Scale the format to hold this, by its bias rule");
  app->add_option("--bias", args->bias, "Exponent bias instead of the format's own")
      ->excludes(maxval);
  auto* compare =
      app->add_option("--compare", args->compare, "Formats to compare, separated by commas")
          ->delimiter(',');
  app->add_option("--distribution", args->distribution,
                  "What values are distributed like; gauss if not given")
      ->needs(compare);
  app->add_option("--clip", args->clip, "Clip the distribution there instead of at 1, 10, 60, 100")
      ->needs(compare);
  app->add_option("--alpha", args->alpha, "Compare on this range instead of on each format's best")
      ->needs(compare);
  auto* encode =
      app->add_option("--encode", args->encode, "Write the codes of a float32 .npy file");
  app->add_option("--output,-o", args->output, "Where --encode writes them")->needs(encode);
  app->add_flag("--no-saturate", args->no_saturate,
                "Encode what is too large as infinity or NaN, where the format has them")
      ->needs(encode);
  encode->excludes(compare);
  return {app, [=, &common] {
            if (args->formats.empty() == args->compare.empty()) {
              throw Error(ErrorCode::kInvalidArgument,
                          args->formats.empty()
                              ? "format: expected a format, such as e3m4, or --compare with several"
                              : "format: expected formats to describe or --compare, not both");
            }
            const GridOptions grid{.maxval = args->maxval, .bias = args->bias};
            if (!args->compare.empty()) return Compare(*args, common.json);
            if (!args->encode.empty()) return Encode(*args, grid, common.json);
            if (args->list) return List(*args, grid, common.json);
            Json all = Json::array();
            for (const std::string& name : args->formats) {
              const FormatFacts facts = DescribeFormat(name, grid);
              if (common.json) {
                all.push_back(ToJson(facts));
              } else {
                if (&name != args->formats.data()) fmt::print("\n");
                Print(facts);
              }
            }
            if (common.json) PrintJson(all.size() == 1 ? all[0] : all);
            return 0;
          }};
}

}  // namespace octet::cli
