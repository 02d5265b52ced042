#pragma once

#include <string>
#include <vector>

namespace lockstep {

constexpr int kGlyphWidth = 40, kGlyphHeight = 60;

struct GlyphPoint {
  int x, y;
};

// One way of writing a digit: points on a grid kGlyphWidth wide and kGlyphHeight high, y downwards, and strokes that
// lead through them. A stroke is a word of letters, A the first point: two letters are a line, more are a smooth curve;
// strokes that meet share a point.
struct Glyph {
  std::vector<GlyphPoint> points;
  std::string strokes;
};

// The ways of writing `digit`, 0 … 9; at least one.
const std::vector<Glyph>& GlyphsOf(int digit);

}  // namespace lockstep
