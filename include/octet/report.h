// One self-contained HTML page of a run: tables that sort, curves, layers, activations. Nothing is
// fetched when it is opened (docs/sweeps.md).
#pragma once

#include <string>

namespace octet {

// `run`: the database of octet sweep, or the JSON that octet analyze or octet quantize prints with
// --json, or a manifest. Throws kBadFile for anything else. An empty title: as the run is called.
[[nodiscard]] std::string RenderReport(const std::string& run, const std::string& title = {});

}  // namespace octet
