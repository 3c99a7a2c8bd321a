#include "octet/recipe.h"

#include <gtest/gtest.h>

#include "base/test_folder.h"

namespace octet {
namespace {

void ExpectWrong(const std::string& yaml, std::initializer_list<std::string_view> parts) {
  const auto error = ErrorOf([&] { (void)Recipe::Parse(yaml, "my.yaml"); });
  ASSERT_TRUE(error) << yaml;
  EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument) << yaml;
  for (const std::string_view part : parts) {
    EXPECT_NE(std::string_view(error->what()).find(part), std::string_view::npos)
        << "'" << part << "' is not in: " << error->what();
  }
}

TEST(Recipe, ReadsEveryKey) {
  const Recipe r = Recipe::Parse(R"(
name: mine
target: tensorrt
activation_format: int8
estimator: percentile:99.9
weight_format: int8
weight_granularity: tensor
fold_batchnorm: false
equalize: off
smooth: on
alpha: 0.25
bias_correction: none
quantize_outputs: false
layers:
  - match: 'conv_dw_*'
    skip: true
  - {match: head, estimator: mse, weight_granularity: channel, alpha: 0.75}
)");
  EXPECT_EQ(r.name, "mine");
  EXPECT_EQ(r.target, "tensorrt");
  EXPECT_EQ(r.activation_format, "int8");
  EXPECT_EQ(r.estimator, "percentile:99.9");
  EXPECT_EQ(r.weight_format, "int8");
  EXPECT_EQ(r.weight_granularity, "tensor");
  EXPECT_FALSE(r.fold_batchnorm);
  EXPECT_EQ(r.equalize, Switch::kOff);
  EXPECT_EQ(r.smooth, Switch::kOn);
  EXPECT_EQ(r.alpha, 0.25F);
  EXPECT_EQ(r.bias_correction, "none");
  EXPECT_FALSE(r.quantize_outputs);
  ASSERT_EQ(r.layers.size(), 2u);
  EXPECT_EQ(r.layers[0].match, "conv_dw_*");
  EXPECT_EQ(r.layers[0].skip, true);
  EXPECT_FALSE(r.layers[0].alpha);
  EXPECT_EQ(r.layers[1].estimator, "mse");
  EXPECT_EQ(r.layers[1].weight_granularity, "channel");
  EXPECT_EQ(r.layers[1].alpha, 0.75F);
  EXPECT_FALSE(r.layers[1].skip);
}

// Everything that a key can say, through text and back. Equal text is equal recipes, since ToYaml
// writes every key (ReadsEveryKey compares the keys themselves).
TEST(Recipe, ComesBackFromItsText) {
  std::vector<Recipe> recipes;
  for (const std::string& name : Recipe::PresetNames()) recipes.push_back(Recipe::Preset(name));
  Recipe odd;
  odd.name = "a: \"b\" # 'c'\nd";
  odd.target = "octet";
  odd.activation_format = "int8";
  odd.alpha = 1.0F / 3;  // nine digits or it does not come back
  odd.smooth = Switch::kOn;
  odd.equalize = Switch::kOff;
  odd.quantize_outputs = true;
  odd.layers.push_back(
      {"*", false, "entropy", "e4m3", "search:int8,e3m4", "mse", "tensor", "exact", 0.3F});
  odd.layers.push_back({"- [x]: {y}", true, {}, {}, {}, {}, {}, {}, {}});
  recipes.push_back(odd);
  for (const Recipe& r : recipes) {
    const Recipe again = Recipe::Parse(r.ToYaml());
    EXPECT_EQ(again.ToYaml(), r.ToYaml());
    EXPECT_EQ(again.name, r.name);
    EXPECT_EQ(again.alpha, r.alpha);
    EXPECT_EQ(again.activation_format, r.activation_format);
    ASSERT_EQ(again.layers.size(), r.layers.size());
    for (size_t i = 0; i < r.layers.size(); ++i) {
      EXPECT_EQ(again.layers[i].match, r.layers[i].match);
      EXPECT_EQ(again.layers[i].skip, r.layers[i].skip);
      EXPECT_EQ(again.layers[i].alpha, r.layers[i].alpha);
    }
  }
}

TEST(Recipe, ANameOfControlCharactersComesBack) {
  Recipe r;
  for (const std::string name : {"2\r", "a\nb", "\x01", "tab\t"}) {
    r.name = name;
    EXPECT_EQ(Recipe::Parse(r.ToYaml()).name, name) << r.ToYaml();
  }
}

TEST(Recipe, StartsFromAPreset) {
  const Recipe r = Recipe::Parse("bias_correction: analytic\npreset: naive\n");
  Recipe expected = Recipe::Preset("naive");
  EXPECT_NE(expected.bias_correction, "analytic");
  expected.bias_correction = "analytic";
  EXPECT_EQ(r.ToYaml(), expected.ToYaml());
  EXPECT_EQ(Recipe::Parse("").ToYaml(), Recipe().ToYaml());
  EXPECT_EQ(Recipe::Preset("default").ToYaml(), Recipe().ToYaml());
  ExpectWrong("preset: nowhere", {"nowhere", "default", "naive"});
  ExpectWrong("preset: [default]", {"my.yaml:1", "preset", "a list"});
}

TEST(Recipe, NamesWhatIsWrongAndWhere) {
  ExpectWrong("name: x\nsmoothing: on\n", {"my.yaml:2", "smoothing", "smooth"});
  ExpectWrong("\n\ntarget: abacus\n", {"my.yaml:3", "target", "abacus", "onnxruntime, tensorrt"});
  ExpectWrong("smooth: maybe", {"smooth", "maybe", "on, off or auto"});
  ExpectWrong("fold_batchnorm: 1", {"fold_batchnorm", "true or false"});
  ExpectWrong("alpha: 1.5", {"alpha", "1.5", "from 0 to 1"});
  ExpectWrong("alpha: .nan", {"alpha", "from 0 to 1"});
  ExpectWrong("alpha: half", {"alpha", "half"});
  ExpectWrong("estimator: guess", {"estimator", "guess"});
  ExpectWrong("estimator: percentile:101", {"estimator", "101"});
  ExpectWrong("weight_format: int3", {"weight_format", "int3"});
  ExpectWrong("name:", {"name", "empty"});
  ExpectWrong("target: {a: b}", {"target", "a mapping"});
  ExpectWrong("smooth: on\nalpha: 0.5\nsmooth: off\n", {"my.yaml:3", "smooth", "twice"});
  ExpectWrong("- a\n- b\n", {"my.yaml", "mapping"});
  ExpectWrong("a: [", {"my.yaml", "YAML"});
  ExpectWrong("? [a]\n: b\n", {"my.yaml"});
}

TEST(Recipe, NamesWhatIsWrongInARule) {
  ExpectWrong("layers: x", {"layers", "a list"});
  ExpectWrong("layers:\n  - skip: true\n", {"my.yaml:2", "match"});
  ExpectWrong("layers:\n  - match: a\n    keep: true\n", {"my.yaml:3", "layers.keep", "skip"});
  ExpectWrong("layers:\n  - match: a\n    match: b\n", {"my.yaml:3", "layers.match", "twice"});
  ExpectWrong("layers:\n  - match: a\n    alpha: -1\n", {"my.yaml:3", "layers.alpha", "-1"});
  ExpectWrong("layers: [a]", {"layers", "match"});
}

TEST(Recipe, TakesEverySearch) {
  const Recipe r = Recipe::Parse(R"(
target: octet
placement: compute
matmul: all
activation_format: 'search:uint8,e4m3'
weight_format: 'vote:e4m3'
estimator: line-search
weight_estimator: percentile:99.5
search_by: tensor
result_range: minmax
layers:
  - {match: softmax, estimator: cross-entropy, weight_estimator: golden-section, activation_format: float32}
)");
  EXPECT_EQ(r.placement, "compute");
  EXPECT_EQ(r.matmul, "all");
  EXPECT_EQ(r.weight_format, "vote:e4m3");
  EXPECT_EQ(r.weight_estimator, "percentile:99.5");
  EXPECT_EQ(r.search_by, "tensor");
  EXPECT_EQ(r.result_range, "minmax");
  EXPECT_EQ(r.layers[0].weight_estimator, "golden-section");
  EXPECT_EQ(Recipe::Parse(r.ToYaml()).ToYaml(), r.ToYaml());
}

TEST(Recipe, SaysWhySearchesMakeNoSense) {
  ExpectWrong("estimator: cross-entropy\n", {"cross-entropy", "logits", "rule"});
  ExpectWrong("estimator: mse-2d\nactivation_format: int8\n", {"mse-2d", "int8", "zero point"});
  ExpectWrong("estimator: mse-2d\nlayers: [{match: a, activation_format: 'int8'}]\n",
              {"mse-2d", "int8", "rule 'a'"});
  ExpectWrong("weight_estimator: mse-2d\n", {"mse-2d", "symmetric", "golden-section"});
  ExpectWrong("weight_estimator: cross-entropy\n", {"no logits"});
  ExpectWrong("weight_estimator: fancy\n", {"fancy", "percentile"});
  ExpectWrong("estimator: fancy\n", {"fancy", "mse-2d", "golden-section", "cross-entropy"});
  ExpectWrong("search_by: luck\n", {"luck", "output, tensor"});
  ExpectWrong("result_range: wide\n", {"wide", "minmax, search"});
  ExpectWrong("matmul: some\n", {"matmul", "some", "weights", "all"});
  ExpectWrong("placement: full\nactivation_format: float8_e4m3fn\n",
              {"placement full", "float8_e4m3fn", "compute"});
  ExpectWrong("target: octet\nmultiplier: hw\nweight_format: float32\n",
              {"hw", "float32", "codes"});
}

TEST(Recipe, RefusesWhatDoesNotGoTogether) {
  ExpectWrong("target: tensorrt\nactivation_format: uint8\n", {"tensorrt", "uint8"});
  ExpectWrong("target: tensorrt\nquantize_outputs: true\n", {"tensorrt", "quantize_outputs"});
}

constexpr const char* kE3m4 =
    "target: octet\nactivation_format: 'e3m4:bias=int'\nweight_format: 'e3m4:bias=int'\n";

// The rule, both formats, and what to write instead.
TEST(Recipe, RefusesMultipliersOfOtherFormats) {
  const std::string e3m4 = kE3m4;
  ExpectWrong(e3m4 + "multiplier: 'hw:e4m3,d=3'\n",
              {"hw:e4m3,d=3 with activations in e3m4:bias=int and weights in e3m4:bias=int",
               "it is of e4m3", "write hw:d=3,",
               "or activation_format and weight_format e4m3:bias=int there"});
  ExpectWrong(e3m4 + "layers: [{match: 'conv_*', multiplier: 'qamaa:e2m5,each_add=on'}]\n",
              {"of the rule 'conv_*'", "activations in e3m4:bias=int", "write qamaa:each_add=on,",
               "weight_format e2m5 there"});
  ExpectWrong(e3m4 + "multiplier: exact:e3m4\n", {"exact:e3m4", "write multiplier exact"});
  ExpectWrong(e3m4 + "layers: [{match: a, weight_format: 'e4m3:bias=int', multiplier: hw}]\n",
              {"rule 'a'", "activations in e3m4:bias=int and weights in e4m3:bias=int",
               "write e3m4:bias=int or e4m3:bias=int for both"});
  ExpectWrong(e3m4 + "layers: [{match: a, weight_format: int8, multiplier: v9}]\n",
              {"rule 'a'", "weights in int8", "write activation_format and weight_format e4m3:"});
  ExpectWrong(e3m4 + "multiplier: 'table:t.npy,x=e4m3,w=e3m4'\n",
              {"the table is of e4m3 by e3m4", "x=e3m4:bias=int,w=e3m4:bias=int"});
  ExpectWrong(e3m4 + "multiplier: 'table:t.npy,x=e3m4,w=e4m3'\n", {"the table is of e3m4 by e4m3"});
  ExpectWrong("target: octet\nmultiplier: 'table:t.npy,x=uint8,w=uint8'\n",
              {"the table is of uint8 by uint8", "write activation_format uint8", "w=int8-narrow"});
  ExpectWrong(
      "target: octet\nactivation_format: int16\nweight_format: int16\n"
      "multiplier: 'table:t.npy,x=int16,w=int16'\n",
      {"int16"});
  const auto both = [](const std::string& format, const std::string& multiplier) {
    return Cat("target: octet\nactivation_format: '", format, "'\nweight_format: '", format,
               "'\nmultiplier: '", multiplier, "'\n");
  };
  ExpectWrong(both("e5m0:bias=int", "hw"), {"adding exponents is exact", "write multiplier exact"});
  ExpectWrong(both("e0m7", "qamaa"), {"e0m7 has no exponents", "write int8"});
  ExpectWrong(both("e5m2:bias=int", "v9:quant=off"), {"2^62", "write quant=on"});
  ExpectWrong(both("e6m1:bias=int", "hw"), {"more than 62 bits", "at most 5 exponent bits"});
  ExpectWrong(both("e6m0", "qamaa"), {"at most 5 exponent bits"});
  ExpectWrong(both("e3m4:bias=int-round", "v9"), {"biases must be integers"});
  ExpectWrong(both("e3m4", "v9"), {"biases must be integers: write e3m4:bias=int"});
}

// Named, but the layer's: nothing to refuse.
TEST(Recipe, TakesMultipliersOfTheLayersFormats) {
  for (const char* multiplier :
       {"hw:e3m4,d=3", "v9:e3m4,quant=off", "qamaa:e3m4", "table:t.npy,x=e3m4,w=e3m4"})
    EXPECT_EQ(Recipe::Parse(std::string(kE3m4) + "multiplier: '" + multiplier + "'\n").multiplier,
              multiplier);
  EXPECT_NO_THROW((void)Recipe::Parse("target: octet\nmultiplier: 'table:t.npy,x=uint8'\n"));
  EXPECT_NO_THROW(
      (void)Recipe::Parse("target: octet\nactivation_format: 'e3m4:bias=standard'\n"
                          "weight_format: 'e3m4:bias=int'\nmultiplier: hw\n"));
  // One rule has the formats, another the multiplier: which layers have both, a model tells.
  EXPECT_NO_THROW(
      (void)Recipe::Parse("target: octet\nlayers:\n"
                          "  - {match: 'a*', multiplier: hw}\n"
                          "  - {match: a1, activation_format: 'e3m4:bias=int'}\n"
                          "  - {match: a1, weight_format: 'e3m4:bias=int'}\n"));
}

TEST(Recipe, RefusesHostileText) {
  ExpectWrong(std::string((1U << 20U) + 1, ' '), {"1 MiB"});
  ExpectWrong(std::string(100'000, '['), {"my.yaml"});
  ExpectWrong(std::string(100'000, '{'), {"my.yaml"});
  ExpectWrong("layers: &a [*a]", {"layers"});
  ExpectWrong(std::string("name: \0x", 8) + ": [", {"my.yaml"});
}

TEST(Recipe, LoadsAPresetOrAFile) {
  const TestFolder folder;
  const auto file = folder.Write("r.yaml", "name: from file\nalpha: 2\n");
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { (void)Recipe::Load(file.string()); }, file.string() + ":2",
      "alpha");
  EXPECT_EQ(Recipe::Load(folder.Write("s.yaml", "name: from file\n").string()).name, "from file");
  const std::string tables =
      "{target: octet, activation_format: int8, multiplier: 'table:a.npy', layers: ["
      "{match: b, multiplier: 'table:sub/b.csv,x=int8,unit=2'}, {match: c, multiplier: exact}, "
      "{match: d, multiplier: 'table:/d.npy'}]}";
  EXPECT_EQ(Recipe::Load(folder.Write("t.yaml", tables).string()).TableFiles(),
            (std::vector<std::string>{(folder.path() / "a.npy").string(),
                                      (folder.path() / "sub/b.csv").string(), "/d.npy"}));
  EXPECT_EQ(Recipe::Parse(tables).WithTablesIn("f").layers[0].multiplier,
            "table:f/sub/b.csv,unit=2");
  EXPECT_EQ(Recipe::Load("naive").ToYaml(), Recipe::Preset("naive").ToYaml());
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { (void)Recipe::Load("nothing"); }, "nothing", "default");
  ExpectError(
      ErrorCode::kIo, [&] { (void)Recipe::Load("nowhere.yaml"); }, "nowhere.yaml", "No such file");
}

}  // namespace
}  // namespace octet
