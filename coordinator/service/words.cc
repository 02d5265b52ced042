#include "coordinator/service/words.h"

#include <cstdint>

#include "absl/strings/str_format.h"

namespace lockstep {
namespace {

constexpr size_t kMaxBytes = 1000;

// Bytes of the character that `text` begins with; 0: not valid (RFC 3629: no overlong forms, surrogates or beyond
// U+10FFFF).
size_t CharacterSize(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const size_t size = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : 2;
  if (byte(0) < 0xC2 || byte(0) > 0xF4 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (byte(0) == 0xE0 && byte(1) < 0xA0) return 0;
  if (byte(0) == 0xED && byte(1) > 0x9F) return 0;
  if (byte(0) == 0xF0 && byte(1) < 0x90) return 0;
  if (byte(0) == 0xF4 && byte(1) > 0x8F) return 0;
  return size;
}

}  // namespace

std::string Words(absl::string_view said) {
  std::string words;
  while (!said.empty()) {
    const size_t size = CharacterSize(said);
    if (words.size() + (size == 0 ? 1 : size) > kMaxBytes) break;
    if (size == 0) {
      words += '?';
      said.remove_prefix(1);
    } else {
      words.append(said.data(), size);
      said.remove_prefix(size);
    }
  }
  return words;
}

std::string InSeconds(absl::Duration duration) { return absl::StrFormat("%g s", absl::ToDoubleSeconds(duration)); }

}  // namespace lockstep
