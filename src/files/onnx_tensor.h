// TensorProto to Tensor and back, and where the bytes of external data come from. Internal to the
// ONNX reader and writer: the only header, with onnx_*.cc, that sees libonnx's messages.
#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "tensor/tensor.h"

namespace octet {

// The element type behind a TensorProto.DataType number; nullopt for those Octet has no DType for
// (string, complex, 4-bit and newer). The numbers 17 to 20 are newer than libonnx 1.12's enum.
[[nodiscard]] std::optional<DType> DTypeOfOnnx(int64_t data_type);
[[nodiscard]] int32_t OnnxOfDType(DType dtype);
// "float32", or "string (TensorProto type 8)" for messages about types that have no DType.
[[nodiscard]] std::string OnnxTypeName(int64_t data_type);

// Maps the external data files of one model, each once.
class ExternalData {
 public:
  explicit ExternalData(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // The mapped file at `location`, which must be a relative path that stays within the folder,
  // symbolic links resolved. Throws kBadFile where it does not, kIo where there is no such file;
  // `tensor` is for the message.
  [[nodiscard]] std::shared_ptr<const MappedFile> Open(const std::string& location,
                                                       std::string_view tensor);

 private:
  std::filesystem::path folder_;
  std::map<std::string, std::shared_ptr<const MappedFile>> files_;
};

// Decodes a tensor. Takes its raw_data out of the message, so that nothing large is copied. `what`
// names the tensor in messages ("initializer 'w'").
[[nodiscard]] Tensor TakeTensor(onnx::TensorProto& proto, ExternalData& external,
                                const std::string& what);

// Dimensions, type and raw_data of a tensor; no name.
[[nodiscard]] onnx::TensorProto MakeTensorProto(const TensorView& tensor);

}  // namespace octet
