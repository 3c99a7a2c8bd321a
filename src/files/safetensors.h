// The safetensors format: 8-byte little-endian header length, a JSON header, then the tensors'
// bytes. Spec: huggingface/safetensors README, "Format".
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "tensor/named_tensors.h"

namespace octet {

// Tensors borrow the bytes of `owner` (a mapping, where a path is given); those that are not
// aligned for their element type are copied. Throws kBadFile for a header that is too large or no
// JSON, for repeated names, and for offsets that overlap, leave holes, run past the end or do not
// fit shape and type; kUnsupported for other element types.
[[nodiscard]] NamedTensors ParseSafetensors(std::span<const std::byte> bytes, std::string_view name,
                                            std::shared_ptr<const void> owner);
[[nodiscard]] NamedTensors ReadSafetensors(const std::filesystem::path& path);

// The same tensors and metadata give the same bytes: tensors lie by element size (widest first),
// then name, so that each is aligned. Atomic.
void WriteSafetensors(const std::filesystem::path& path, const NamedTensors& tensors);

}  // namespace octet
