// ONNX files into graphs. Operator sets 13 to 23 are taken as they are, older ones are raised to 13
// by the rules of onnx_upgrade.cc, newer ones are refused.
//
// Untrusted bytes: whatever is wrong with them ends in octet::Error (kBadFile where the bytes
// contradict the format, kUnsupported where they are well-formed but outside what Octet does, kIo
// where a file cannot be read).
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "graph/graph.h"

namespace octet {

inline constexpr int64_t kOldestOpset = 13;  // of the graphs that the reader gives
inline constexpr int64_t kNewestOpset = 23;

// Reads a model. Initializers borrow the parsed message or the mapped external data; they keep it
// alive.
[[nodiscard]] Graph ReadOnnx(const std::filesystem::path& path);

// The same from memory. External data is looked for in, and confined to,
// `folder_for_external_data`.
[[nodiscard]] Graph ParseOnnx(std::span<const std::byte> bytes,
                              const std::filesystem::path& folder_for_external_data);

}  // namespace octet
