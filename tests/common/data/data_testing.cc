#include "tests/common/data/data_testing.h"

#include <zlib.h>

#include <fstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"

namespace lockstep {

std::string FolderTest::Write(const std::string& name, const std::string& data) const {
  std::ofstream(Path(name), std::ios::binary) << data;
  return Path(name);
}

std::string Hex(const std::string& text) { return absl::HexStringToBytes(absl::StrReplaceAll(text, {{" ", ""}})); }

std::string Gzip(const std::string& data) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, data.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = data.size();
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = out.size();
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

}  // namespace lockstep
