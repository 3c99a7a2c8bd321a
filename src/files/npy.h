// NumPy's .npy (format versions 1 to 3) and .npz files.
// Spec: numpy.lib.format; for .npz: PKWARE APPNOTE (entries stored or deflated, CRC checked, no
// ZIP64).
//
// Little-endian bool, int, uint and float of 1 to 8 bytes. Fortran order is converted to row-major.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace octet {

// Throws kBadFile (naming `name`) for bytes that are not one whole array, kUnsupported for
// big-endian data and other element types. With an owner the tensor borrows the bytes where their
// alignment allows it.
[[nodiscard]] Tensor ParseNpy(std::span<const std::byte> bytes, std::string_view name,
                              std::shared_ptr<const void> owner = nullptr);
[[nodiscard]] Tensor ReadNpy(const std::filesystem::path& path);  // mapped, not copied

// Format version 1, header padded to 64 bytes: what numpy.save writes. Throws kUnsupported for
// bfloat16, float8.
[[nodiscard]] std::string EncodeNpyHeader(DType dtype, const Shape& shape);
void WriteNpy(const std::filesystem::path& path, const TensorView& tensor);  // atomic

struct NamedArray {
  std::string name;  // of the entry, without ".npy"
  Tensor tensor;
};

// Arrays in the order of the archive's directory. Throws kBadFile naming archive and entry.
[[nodiscard]] std::vector<NamedArray> ParseNpz(std::span<const std::byte> bytes,
                                               std::string_view name);
[[nodiscard]] std::vector<NamedArray> ReadNpz(const std::filesystem::path& path);

}  // namespace octet
