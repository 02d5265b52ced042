#include "coordinator/observe/text.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace lockstep {
namespace {

constexpr double kHour = 3600, kDay = 86400;

std::string NonFinite(double value) { return std::isnan(value) ? "nan" : value < 0 ? "-inf" : "inf"; }

// 1234567 → 1,234,567
std::string Grouped(int64_t value) {
  std::string digits = absl::StrCat(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

bool Continues(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

}  // namespace

std::string CountText(double count) {
  if (!std::isfinite(count)) return NonFinite(count);
  const double size = std::abs(count);
  if (size >= 1e12) return absl::StrFormat("%.2e", count);
  if (size >= 99.95 || count == std::floor(count)) return Grouped(std::llround(count));
  return size >= 1 ? absl::StrFormat("%.1f", count) : absl::StrFormat("%.2g", count);
}

std::string CountText(int64_t count, absl::string_view noun) {
  return absl::StrCat(Grouped(count), " ", noun, count == 1 ? "" : "s");
}

std::string FigureText(double value) {
  if (!std::isfinite(value)) return NonFinite(value);
  const double size = std::abs(value);
  if (size >= 1e4 || (size < 1e-3 && size > 0)) return absl::StrFormat("%.3g", value);
  return absl::StrFormat("%.4f", value);
}

std::string DurationText(double seconds) {
  if (!std::isfinite(seconds)) return NonFinite(seconds);
  if (seconds < 0) return absl::StrCat("-", DurationText(-seconds));
  if (seconds < 9.995) return absl::StrFormat("%.2f s", seconds);
  if (seconds < 59.95) return absl::StrFormat("%.1f s", seconds);
  if (seconds >= 1e6 * kDay) return absl::StrFormat("%.2e d", seconds / kDay);
  const int64_t whole = std::llround(seconds);
  if (whole < kHour) return absl::StrFormat("%d min %02d s", whole / 60, whole % 60);
  if (whole < kDay) return absl::StrFormat("%d h %02d min", whole / 3600, whole / 60 % 60);
  return absl::StrFormat("%s d %02d h", Grouped(whole / 86400), whole / 3600 % 24);
}

std::string ClockText(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds >= 100 * kDay) return "100 d or more";
  const int64_t whole = std::llround(seconds);
  if (whole < kHour) return absl::StrFormat("%d:%02d", whole / 60, whole % 60);
  if (whole < kDay) return absl::StrFormat("%d:%02d:%02d", whole / 3600, whole / 60 % 60, whole % 60);
  return absl::StrFormat("%d d %02d h", whole / 86400, whole / 3600 % 24);
}

std::string BytesText(int64_t bytes) {
  constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return absl::StrFormat("%d B", bytes);
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < std::size(kUnits); ++unit) value /= 1000;
  return value < 9.995 ? absl::StrFormat("%.2f %s", value, kUnits[unit])
                       : absl::StrFormat("%.*f %s", value < 99.95 ? 1 : 0, value, kUnits[unit]);
}

std::string PercentText(double fraction) {
  if (!std::isfinite(fraction)) return "?%";
  return absl::StrFormat("%.1f%%", 100 * fraction);
}

int WidthOf(absl::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return !Continues(c); }));
}

std::string Cut(absl::string_view text, int columns) {
  size_t end = 0;
  for (int width = 0; end < text.size(); ++end) {
    if (!Continues(text[end]) && ++width > columns) break;
  }
  return std::string(text.substr(0, end));
}

std::string CutMiddle(absl::string_view text, int columns) {
  const int width = WidthOf(text), head = (columns - 1) / 2;
  if (width <= columns) return std::string(text);
  size_t at = 0;  // of the end that stays
  for (int skipped = 0; at < text.size(); ++at) {
    if (!Continues(text[at]) && ++skipped > width - (columns - 1 - head)) break;
  }
  return absl::StrCat(Cut(text, head), "…", text.substr(at));
}

std::string Wrap(absl::string_view text, int columns, absl::string_view first, absl::string_view rest) {
  std::string all, line(first);
  bool fresh = true;
  for (const absl::string_view word : absl::StrSplit(text, absl::ByAnyChar(" \n\t"), absl::SkipEmpty())) {
    if (!fresh && WidthOf(line) + 1 + WidthOf(word) > columns) {
      absl::StrAppend(&all, line, "\n");
      line = std::string(rest);
      fresh = true;
    }
    absl::StrAppend(&line, fresh ? "" : " ", word);
    fresh = false;
  }
  return all + line;
}

std::string OneLine(absl::string_view text) {
  return absl::StrReplaceAll(absl::StripTrailingAsciiWhitespace(text),
                             {{"\r\n", " "}, {"\n", " "}, {"\t", " "}, {"\r", " "}});
}

std::string Field(absl::string_view label, absl::string_view text) {
  constexpr int kLabel = 15;
  return Wrap(text, kPageColumns, absl::StrFormat("%-*s", kLabel, label), std::string(kLabel, ' ')) + "\n";
}

std::string ShellWord(const std::string& word) {
  const auto plain = [](char c) {
    return absl::ascii_isalnum(c) || absl::string_view("-_./:=,+@%").find(c) != absl::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
  std::string quoted = "'";
  for (const char c : word) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

TextTable::TextTable(std::vector<std::string> head, std::vector<bool> left) : left_(std::move(left)) {
  rows_.push_back(std::move(head));
}

std::string TextTable::Text(absl::string_view indent) const {
  std::vector<int> widths(left_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], WidthOf(row[i]));
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line(indent);
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - WidthOf(row[i]), ' ');
      absl::StrAppend(&line, i > 0 ? "  " : "", left_[i] ? row[i] : space, left_[i] ? space : row[i]);
    }
    absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(line), "\n");
  }
  return text;
}

}  // namespace lockstep
