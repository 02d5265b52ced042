#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace lockstep {

// Pages are at most so wide.
inline constexpr int kPageColumns = 100;

// Numbers as people read them. Every one takes any value: "nan", "inf", numbers of 20 digits.

std::string CountText(double count);                           // 12,345 · 12.3 (below 100) · 1.23e+15
std::string CountText(int64_t count, absl::string_view noun);  // "1 step", "2 steps"
std::string FigureText(double value);                          // a loss or metric: 0.9791 · 1.25e-05 · 1.2e+09
std::string DurationText(double seconds);  // 0.42 s · 12.3 s · 2 min 03 s · 3 h 04 min · 2 d 03 h
std::string ClockText(double seconds);     // 0:12 · 1:02:03; negative or not finite: ?
std::string BytesText(int64_t bytes);      // 512 B · 1.5 MB (powers of 1000)
std::string PercentText(double fraction);  // 4.2%

// Columns of a terminal that valid UTF-8 takes, one a character.
int WidthOf(absl::string_view text);
// At most `columns` wide, the end cut off.
std::string Cut(absl::string_view text, int columns);
// The same for names, which differ at their ends as often: "…" in place of the middle.
std::string CutMiddle(absl::string_view text, int columns);
// Breaks `text` between words so that lines are at most `columns` wide, a longer word alone excepted. The first line
// begins with `first`, the others with `rest`.
std::string Wrap(absl::string_view text, int columns, absl::string_view first, absl::string_view rest);
// With a space for every line break and tab.
std::string OneLine(absl::string_view text);
// A line with a label in front, broken over several where it is long.
std::string Field(absl::string_view label, absl::string_view text);
// One word for a shell, quoted where it has to be.
std::string ShellWord(const std::string& word);

// Rows of cells under a head; columns of numbers to the right, others (see `left`) to the left; two spaces between.
class TextTable {
 public:
  TextTable(std::vector<std::string> head, std::vector<bool> left);
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string Text(absl::string_view indent) const;

 private:
  std::vector<std::vector<std::string>> rows_;
  const std::vector<bool> left_;
};

}  // namespace lockstep
