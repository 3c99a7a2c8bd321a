#include "files/npy.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstring>

#include "base/file.h"
#include "base/test_folder.h"

namespace octet {
namespace {

// A version-1 file with this header text and data.
std::string Npy(std::string_view dict, std::string_view data, char major = 1) {
  std::string s = "\x93NUMPY";
  s += major;
  s += '\0';
  s += static_cast<char>(dict.size() & 0xff);
  s += static_cast<char>(dict.size() >> 8);
  if (major > 1) s += std::string(2, '\0');
  return s.append(dict).append(data);
}

std::string Dict(std::string_view descr, std::string_view shape, bool fortran = false) {
  return Cat("{'descr': '", descr, "', 'fortran_order': ", fortran ? "True" : "False",
             ", 'shape': ", shape, ", }\n");
}

TEST(Npy, ReadsWhatNumpyWrites) {
  // numpy.save(f, numpy.array([[1, -2, 3]], numpy.int16))
  const std::string text = "{'descr': '<i2', 'fortran_order': False, 'shape': (1, 3), }";
  const std::string file =
      Npy(text + std::string(117 - text.size(), ' ') + "\n", std::string("\1\0\xfe\xff\3\0", 6));
  const Tensor t = ParseNpy(BytesOf(file), "x");
  EXPECT_EQ(t.dtype(), DType::kInt16);
  EXPECT_EQ(t.shape(), (Shape{1, 3}));
  EXPECT_EQ(t.data<int16_t>()[0], 1);
  EXPECT_EQ(t.data<int16_t>()[1], -2);
  EXPECT_EQ(t.data<int16_t>()[2], 3);
  EXPECT_EQ(EncodeNpyHeader(DType::kInt16, Shape{1, 3}), file.substr(0, 128));
}

TEST(Npy, VersionsKeyOrderAndQuotes) {
  for (const char version : {'\1', '\2', '\3'}) {
    const Tensor t = ParseNpy(
        BytesOf(Npy("{\"shape\":(2,),'fortran_order':False,'descr':'|u1'}", "\7\x9", version)),
        "x");
    EXPECT_EQ(t.shape(), (Shape{2}));
    EXPECT_EQ(t.data<uint8_t>()[1], 9);
  }
  EXPECT_EQ(ParseNpy(BytesOf(Npy(Dict("|b1", "()"), "\1")), "x").shape().rank(), 0);
  EXPECT_EQ(ParseNpy(BytesOf(Npy(Dict("<f8", "(0, 5)"), "")), "x").elements(), 0);
}

TEST(Npy, FortranOrderIsConverted) {
  // Shape (2,3,4): element (i,j,k) lies at i + 2j + 6k and is 12i + 4j + k, its row-major place.
  std::string data(24, '\0');
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 4; ++k) {
        data[static_cast<size_t>(i + 2 * j + 6 * k)] = static_cast<char>(12 * i + 4 * j + k);
      }
    }
  }
  const Tensor t = ParseNpy(BytesOf(Npy(Dict("|i1", "(2, 3, 4)", true), data)), "x");
  EXPECT_EQ(t.shape(), (Shape{2, 3, 4}));
  for (int n = 0; n < 24; ++n) EXPECT_EQ(t.data<int8_t>()[static_cast<size_t>(n)], n);
}

TEST(Npy, RoundTripOfEveryType) {
  const TestFolder folder;
  for (DType dtype : {DType::kBool, DType::kInt8, DType::kUint8, DType::kInt16, DType::kUint16,
                      DType::kInt32, DType::kUint32, DType::kInt64, DType::kUint64, DType::kFloat16,
                      DType::kFloat32, DType::kFloat64}) {
    Tensor t(dtype, Shape{3, 2});
    auto* bytes = static_cast<unsigned char*>(t.mutable_raw());
    for (int64_t i = 0; i < t.bytes(); ++i) bytes[i] = static_cast<unsigned char>(i % 2);
    WriteNpy(folder / "t.npy", t.view());
    const Tensor back = ReadNpy(folder / "t.npy");
    EXPECT_EQ(back.dtype(), dtype);
    ASSERT_EQ(back.shape(), t.shape());
    EXPECT_EQ(std::memcmp(back.raw(), t.raw(), static_cast<size_t>(t.bytes())), 0) << NameOf(dtype);
  }
  EXPECT_EQ(folder.EntryCount(), 1u);
  ExpectError(ErrorCode::kUnsupported,
              [&] { WriteNpy(folder / "b.npy", Tensor(DType::kBFloat16, Shape{1}).view()); });
  EXPECT_EQ(folder.EntryCount(), 1u);
}

TEST(Npy, EveryTruncationIsNamed) {
  const std::string file = EncodeNpyHeader(DType::kFloat32, Shape{2, 2}) + std::string(16, '\1');
  for (size_t n = 0; n < file.size(); ++n) {
    ExpectError(
        ErrorCode::kBadFile,
        [&] { (void)ParseNpy(BytesOf(std::string_view(file).substr(0, n)), "cut.npy"); },
        "cut.npy");
  }
  ExpectError(
      ErrorCode::kBadFile, [&] { (void)ParseNpy(BytesOf(file + "x"), "long.npy"); }, "long.npy",
      "17 bytes", "16");
}

TEST(Npy, EveryBitFlipIsReadOrRefused) {
  const std::string file = EncodeNpyHeader(DType::kFloat32, Shape{2, 2}) + std::string(16, '\1');
  int refused = 0;
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      EXPECT_LE(ParseNpy(BytesOf(flipped), "x").bytes(), 16);
    } catch (const Error& e) {
      EXPECT_NE(e.code(), ErrorCode::kInternal) << e.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);  // flips in magic, version, length and header text
}

TEST(Npy, HostileHeaders) {
  const auto refused = [](ErrorCode code, const std::string& file, std::string_view part) {
    ExpectError(
        code, [&] { (void)ParseNpy(BytesOf(file), "h.npy"); }, "h.npy", part);
  };
  refused(ErrorCode::kBadFile, Npy(Dict("<f4", "(4611686018427387904, 4)"), ""), "more than 2^63");
  refused(ErrorCode::kBadFile, Npy(Dict("<f4", "(99999999999999999999,)"), ""), "above 2^63");
  refused(ErrorCode::kBadFile, Npy(Dict("<f4", "(-1,)"), ""), "dimension");
  refused(ErrorCode::kUnsupported, Npy(Dict("|u1", "(1,1,1,1,1,1,1,1,1)"), "x"), "rank 9");
  refused(ErrorCode::kUnsupported, Npy(Dict(">f4", "(1,)"), "abcd"), ">f4");
  refused(ErrorCode::kUnsupported, Npy(Dict("|O", "(1,)"), "abcd"), "|O");
  refused(ErrorCode::kUnsupported, Npy(Dict("", "(1,)"), "abcd"), "element type");
  refused(ErrorCode::kBadFile, Npy("{'descr': '<f4', 'fortran_order': False, }", ""), "missing");
  refused(ErrorCode::kBadFile, Npy(Dict("<f4", "(1,)") + "junk", "abcd"), "after");
  refused(ErrorCode::kBadFile, Npy("{'descr': '<f4', 'descr': '<f4', }", ""), "repeated");
  refused(ErrorCode::kBadFile, Npy("{'descr': '<f4", ""), "does not end");
  refused(ErrorCode::kBadFile, Npy(Dict("|b1", "(1,)"), "\2"), "bool");
  refused(ErrorCode::kUnsupported, Npy(Dict("|u1", "(1,)"), "x", 4), "version 4");
}

// ---- .npz

void Put16(std::string& s, uint32_t v) {
  s.append({static_cast<char>(v & 0xff), static_cast<char>(v >> 8 & 0xff)});
}
void Put32(std::string& s, uint32_t v) {
  Put16(s, v & 0xffff);
  Put16(s, v >> 16);
}

std::string Deflate(std::string_view raw) {
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(raw.size() + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(raw.data()));
  z.avail_in = static_cast<uInt>(raw.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

struct ZipEntry {
  std::string name;
  std::string raw;
  bool deflated = false;
  std::optional<uint32_t> claimed_size = std::nullopt;
  uint32_t flags = 0;
};

std::string Zip(const std::vector<ZipEntry>& entries) {
  std::string file, directory;
  for (const auto& e : entries) {
    const std::string packed = e.deflated ? Deflate(e.raw) : e.raw;
    const auto crc = static_cast<uint32_t>(
        crc32(0, reinterpret_cast<const Bytef*>(e.raw.data()), static_cast<uInt>(e.raw.size())));
    const auto local = static_cast<uint32_t>(file.size());
    std::string common;  // flags … name length, the same in both headers
    Put16(common, e.flags);
    Put16(common, e.deflated ? 8 : 0);
    Put32(common, 0);
    Put32(common, crc);
    Put32(common, static_cast<uint32_t>(packed.size()));
    Put32(common, e.claimed_size.value_or(static_cast<uint32_t>(e.raw.size())));
    Put16(common, static_cast<uint32_t>(e.name.size()));
    Put32(file, 0x04034b50);
    Put16(file, 20);
    file += common;
    Put16(file, 4);  // an extra field, as numpy's
    file += e.name + "abcd" + packed;
    Put32(directory, 0x02014b50);
    Put32(directory, 0x00140014);
    directory += common;
    Put16(directory, 0);
    Put16(directory, 0);
    Put32(directory, 0);
    Put32(directory, 0);
    Put32(directory, local);
    directory += e.name;
  }
  const auto begin = static_cast<uint32_t>(file.size());
  file += directory;
  Put32(file, 0x06054b50);
  Put32(file, 0);
  Put16(file, static_cast<uint32_t>(entries.size()));
  Put16(file, static_cast<uint32_t>(entries.size()));
  Put32(file, static_cast<uint32_t>(directory.size()));
  Put32(file, begin);
  Put16(file, 0);
  return file;
}

std::string SmallArray() { return EncodeNpyHeader(DType::kUint8, Shape{3}) + "\1\2\3"; }

TEST(Npz, StoredAndDeflatedInOrder) {
  const auto arrays = ParseNpz(
      BytesOf(Zip({{"b.npy", SmallArray(), true}, {"a.npy", SmallArray(), false}})), "x.npz");
  ASSERT_EQ(arrays.size(), 2u);
  EXPECT_EQ(arrays[0].name, "b");
  EXPECT_EQ(arrays[1].name, "a");
  for (const auto& a : arrays) EXPECT_EQ(a.tensor.data<uint8_t>()[2], 3);
}

TEST(Npz, EveryTruncationAndBitFlip) {
  const std::string file = Zip({{"b.npy", SmallArray(), true}, {"a.npy", SmallArray(), false}});
  for (size_t n = 0; n < file.size(); ++n) {
    ExpectError(
        ErrorCode::kBadFile,
        [&] { (void)ParseNpz(BytesOf(std::string_view(file).substr(0, n)), "cut.npz"); },
        "cut.npz");
  }
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      // What is read in spite of the flip (a time stamp, a name) has the right contents: the
      // checksum holds.
      for (const auto& a : ParseNpz(BytesOf(flipped), "x"))
        EXPECT_EQ(a.tensor.data<uint8_t>()[2], 3);
    } catch (const Error& e) {
      EXPECT_NE(e.code(), ErrorCode::kInternal) << e.what();
    }
  }
}

TEST(Npz, Hostile) {
  const auto refused = [](ErrorCode code, const std::string& file, std::string_view part) {
    ExpectError(
        code, [&] { (void)ParseNpz(BytesOf(file), "h.npz"); }, "h.npz", part);
  };
  refused(ErrorCode::kBadFile, Zip({{"a.npy", SmallArray(), true, 0xf0000000u}}), "claims");
  refused(ErrorCode::kUnsupported, Zip({{"a.npy", SmallArray(), true, 0xffffffffu}}), "4 GiB");
  refused(ErrorCode::kBadFile, Zip({{"a.npy", SmallArray(), true, 100u}}), "damaged");
  refused(ErrorCode::kBadFile, Zip({{"a.npy", SmallArray(), true, 200u}}), "damaged");
  refused(ErrorCode::kBadFile, Zip({{"a.npy", SmallArray(), false, 5u}}), "two sizes");
  refused(ErrorCode::kBadFile, Zip({{"a.npy", SmallArray()}, {"a.npy", SmallArray()}}),
          "two entries");
  refused(ErrorCode::kBadFile, Zip({{"a.txt", "hello"}}), "a.txt");
  refused(ErrorCode::kUnsupported, Zip({{"a.npy", SmallArray(), false, std::nullopt, 1}}),
          "encrypted");
  refused(ErrorCode::kBadFile, Zip({{"a.npy", "no array"}}), "a.npy");
  std::string damaged = Zip({{"a.npy", SmallArray(), false}});
  damaged[30 + 5 + 4 + 130] = 'x';  // the last element
  refused(ErrorCode::kBadFile, damaged, "checksum");
}

}  // namespace
}  // namespace octet
