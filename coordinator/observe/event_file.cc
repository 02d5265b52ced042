#include "coordinator/observe/event_file.h"

#include <array>
#include <cstring>

#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

namespace lockstep {
namespace {

using google::protobuf::io::CodedOutputStream;
using google::protobuf::io::StringOutputStream;

using CrcTables = std::array<std::array<uint32_t, 256>, 8>;

// table[k][b]: the CRC of byte b followed by k zero bytes. Eight bytes at a time (Kounavis and Berry, "A systematic
// approach to building high performance software-based CRC generators", ISCC 2005).
constexpr CrcTables MakeCrcTables() {
  constexpr uint32_t kPolynomial = 0x82f63b78;  // Castagnoli's, bits reversed
  CrcTables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ kPolynomial : crc >> 1;
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t crc = tables[k - 1][byte];
      tables[k][byte] = (crc >> 8) ^ tables[0][crc & 0xff];
    }
  }
  return tables;
}
constexpr CrcTables kCrc = MakeCrcTables();

// As TFRecord stores a CRC, so that the CRC of data with CRCs in it keeps its strength.
uint32_t Masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8; }

// One load where the machine is little-endian itself.
uint64_t LoadLittleEndian64(const char* at) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(at[i]);
  return value;
}

std::string LittleEndian32(uint32_t value) {
  std::string bytes(4, '\0');
  for (char& byte : bytes) {
    byte = static_cast<char>(value & 0xff);
    value >>= 8;
  }
  return bytes;
}

std::string LittleEndian64(uint64_t value) {
  return LittleEndian32(static_cast<uint32_t>(value)) + LittleEndian32(static_cast<uint32_t>(value >> 32));
}

// Fields of tensorflow.Event and tensorflow.Summary, by number; the key of a field is its number and wire type.
constexpr uint32_t Key(int field, int wire_type) { return static_cast<uint32_t>(field << 3 | wire_type); }
constexpr int kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;
constexpr uint32_t kEventWallTime = Key(1, kFixed64), kEventStep = Key(2, kVarint), kEventFileVersion = Key(3, kBytes),
                   kEventSummary = Key(5, kBytes), kSummaryValue = Key(1, kBytes), kValueTag = Key(1, kBytes),
                   kValueSimple = Key(2, kFixed32);

template <typename Bits, typename Number>
Bits BitsOf(Number number) {
  static_assert(sizeof(Bits) == sizeof(Number));
  Bits bits;
  memcpy(&bits, &number, sizeof(bits));
  return bits;
}

void PutBytes(CodedOutputStream* out, uint32_t key, absl::string_view bytes) {
  out->WriteTag(key);
  out->WriteVarint32(static_cast<uint32_t>(bytes.size()));
  out->WriteRaw(bytes.data(), static_cast<int>(bytes.size()));
}

template <typename Fill>
std::string Encode(Fill fill) {
  std::string bytes;
  {
    StringOutputStream stream(&bytes);
    CodedOutputStream out(&stream);
    fill(&out);
  }
  return bytes;
}

std::string EncodeEvent(double time, int64_t step, uint32_t key, absl::string_view content) {
  return Encode([&](CodedOutputStream* out) {
    out->WriteTag(kEventWallTime);
    out->WriteLittleEndian64(BitsOf<uint64_t>(time));
    out->WriteTag(kEventStep);
    out->WriteVarint64(static_cast<uint64_t>(step));
    PutBytes(out, key, content);
  });
}

std::string EncodeScalar(const Scalar& scalar) {
  return Encode([&](CodedOutputStream* out) {
    PutBytes(out, kValueTag, scalar.tag);
    out->WriteTag(kValueSimple);
    out->WriteLittleEndian32(BitsOf<uint32_t>(static_cast<float>(scalar.value)));
  });
}

}  // namespace

uint32_t Crc32c(absl::string_view data) {
  uint32_t crc = 0xffffffff;
  const char* at = data.data();
  size_t left = data.size();
  for (; left >= 8; at += 8, left -= 8) {
    const uint64_t word = LoadLittleEndian64(at) ^ crc;
    crc = 0;
    for (int k = 0; k < 8; ++k) crc ^= kCrc[7 - k][(word >> (8 * k)) & 0xff];
  }
  for (; left > 0; ++at, --left) crc = (crc >> 8) ^ kCrc[0][(crc ^ static_cast<unsigned char>(*at)) & 0xff];
  return ~crc;
}

absl::StatusOr<std::unique_ptr<EventFile>> EventFile::Create(FileSystem* files, const std::string& folder, double time,
                                                             const std::string& host, const std::string& suffix) {
  RETURN_IF_ERROR(files->MakeFolders(folder));
  const std::string name = absl::StrFormat("events.out.tfevents.%010d.%s.%s", static_cast<int64_t>(time), host, suffix);
  ASSIGN_OR_RETURN(auto file, files->Create(JoinPath(folder, name)));
  std::unique_ptr<EventFile> events(new EventFile(std::move(file)));
  RETURN_IF_ERROR(events->WriteRecord(EncodeEvent(time, 0, kEventFileVersion, "brain.Event:2")));
  return events;
}

EventFile::~EventFile() {
  // Who wants to know whether all is on the disk calls Close.
  if (!closed_) (void)file_->Close();
}

absl::Status EventFile::Write(double time, int64_t step, const std::vector<Scalar>& scalars) {
  const std::string summary = Encode([&](CodedOutputStream* out) {
    for (const Scalar& scalar : scalars) PutBytes(out, kSummaryValue, EncodeScalar(scalar));
  });
  return WriteRecord(EncodeEvent(time, step, kEventSummary, summary));
}

absl::Status EventFile::WriteRecord(absl::string_view event) {
  RETURN_IF_ERROR(error_);
  if (closed_) return absl::FailedPreconditionError("event file: written to after Close");
  std::string record = LittleEndian64(event.size());
  record += LittleEndian32(Masked(Crc32c(record)));
  record.append(event.data(), event.size());
  record += LittleEndian32(Masked(Crc32c(event)));
  error_ = file_->Append(record);
  return error_;
}

absl::Status EventFile::Close() {
  RETURN_IF_ERROR(error_);
  if (closed_) return absl::OkStatus();
  closed_ = true;
  const absl::Status synced = file_->Sync(), done = file_->Close();
  return synced.ok() ? done : synced;
}

}  // namespace lockstep
