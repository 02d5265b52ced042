#include "common/data/digits.h"

#include <algorithm>
#include <array>
#include <vector>

#include "common/base/file.h"
#include "common/base/stable_random.h"
#include "common/base/status.h"
#include "common/data/digit_shapes.h"
#include "common/data/idx.h"

namespace lockstep {
namespace {

constexpr uint64_t kDigits = 0x646967697473;  // "digits"
constexpr int kSide = 28;
constexpr int kUnit = 256;  // of a length: parts of a pixel
constexpr int kFar = 1 << 30;

struct Point {
  int x = 0, y = 0;  // in 1/kUnit pixels
};

// Uniform in [low, high].
int Between(StableRandom* random, int low, int high) {
  return low + static_cast<int>(random->Below(static_cast<uint64_t>(high - low) + 1));
}

// In [-most, most], the middle likelier than the ends.
int Around(StableRandom* random, int most) {
  return (Between(random, -most, most) + Between(random, -most, most) + Between(random, -most, most)) / 3;
}

// The largest integer whose square is no more than `x`.
int64_t SquareRoot(int64_t x) {
  int64_t root = 0;
  for (int64_t bit = int64_t{1} << 15; bit > 0; bit >>= 1) {
    if ((root + bit) * (root + bit) <= x) root += bit;
  }
  return root;
}

// How a hand wrote one digit: where a glyph's grid lies in the picture, and the pen.
struct Hand {
  int width, height;  // of the glyph, in units
  int slant, tilt;    // in 1/1024: x by -y, y by x
  Point middle;       // of the picture to the glyph's middle
  int wobble;         // of a point, in grid steps · 16
  int radius, edge;   // of the pen, in units
  int ink;            // 0 … 255
  int grain;          // strength of the noise
};

Hand MakeHand(StableRandom* random) {
  Hand hand;
  hand.height = (20 + Around(random, 5)) * kUnit;
  hand.width = hand.height * Between(random, 48, 86) / 100;
  hand.slant = 140 + Around(random, 480);
  hand.tilt = Around(random, 260);
  hand.middle = {Around(random, 4 * kUnit), Around(random, 4 * kUnit)};
  hand.wobble = Between(random, 24, 190);
  hand.radius = Between(random, 130, 420);
  hand.edge = Between(random, 200, 420);
  hand.ink = Between(random, 120, 255);
  hand.grain = Between(random, 8, 56);
  return hand;
}

// A glyph's points in the picture.
std::vector<Point> Place(const Glyph& glyph, const Hand& hand, StableRandom* random) {
  std::vector<Point> placed;
  for (const GlyphPoint& point : glyph.points) {
    // From the glyph's middle, in 1/16 of a grid step.
    const int gx = (point.x - kGlyphWidth / 2) * 16 + Around(random, hand.wobble);
    const int gy = (point.y - kGlyphHeight / 2) * 16 + Around(random, hand.wobble);
    const int x = gx * hand.width / (16 * kGlyphWidth), y = gy * hand.height / (16 * kGlyphHeight);
    placed.push_back({kSide * kUnit / 2 + hand.middle.x + x - y * hand.slant / 1024,
                      kSide * kUnit / 2 + hand.middle.y + y + x * hand.tilt / 1024});
  }
  return placed;
}

// A point of a Catmull-Rom spline between p1 and p2, `step` quarters of the way.
int Spline(int p0, int p1, int p2, int p3, int step) {
  const int a = 2 * p1, b = p2 - p0, c = 2 * p0 - 5 * p1 + 4 * p2 - p3, d = 3 * p1 - p0 - 3 * p2 + p3;
  return (a * 64 + b * 16 * step + c * 4 * step * step + d * step * step * step) / 128;
}

class Canvas {
 public:
  // Squared distances beyond `reach` units do not count.
  explicit Canvas(int reach) : reach_(reach) { nearest_.fill(kFar); }

  // Through `points`, smoothly.
  void Stroke(const std::vector<Point>& points) {
    for (size_t i = 0; i + 1 < points.size(); ++i) {
      const Point p1 = points[i], p2 = points[i + 1];
      const Point p0 = i > 0 ? points[i - 1] : p1, p3 = i + 2 < points.size() ? points[i + 2] : p2;
      Point from = p1;
      for (int step = 1; step <= 4; ++step) {
        const Point to = {Spline(p0.x, p1.x, p2.x, p3.x, step), Spline(p0.y, p1.y, p2.y, p3.y, step)};
        Line(from, to);
        from = to;
      }
    }
  }

  // How far pixel `i` is from the nearest line, in units.
  int Distance(int i) const { return nearest_[i] == kFar ? kFar : static_cast<int>(SquareRoot(nearest_[i])); }

 private:
  static int Pixel(int coordinate) { return std::clamp(coordinate, 0, kSide * kUnit - 1) / kUnit; }

  void Line(Point from, Point to) {
    for (int y = Pixel(std::min(from.y, to.y) - reach_); y <= Pixel(std::max(from.y, to.y) + reach_); ++y) {
      for (int x = Pixel(std::min(from.x, to.x) - reach_); x <= Pixel(std::max(from.x, to.x) + reach_); ++x) {
        int& nearest = nearest_[y * kSide + x];
        nearest = std::min(nearest, SquaredDistance({x * kUnit + kUnit / 2, y * kUnit + kUnit / 2}, from, to));
      }
    }
  }

  static int SquaredDistance(Point at, Point from, Point to) {
    const int64_t dx = to.x - from.x, dy = to.y - from.y, px = at.x - from.x, py = at.y - from.y;
    const int64_t along = px * dx + py * dy, length = dx * dx + dy * dy;
    int64_t squared;
    if (along <= 0) {
      squared = px * px + py * py;
    } else if (along >= length) {
      squared = (px - dx) * (px - dx) + (py - dy) * (py - dy);
    } else {
      const int64_t across = px * dy - py * dx;
      squared = across * across / length;
    }
    return static_cast<int>(std::min<int64_t>(squared, kFar));
  }

  const int reach_;
  std::array<int, kSide * kSide> nearest_;
};

// Bell-shaped, standard deviation 148: the four bytes of a number added up.
int Noise(StableRandom* random) {
  const uint32_t x = random->Next32();
  return static_cast<int>((x & 255) + (x >> 8 & 255) + (x >> 16 & 255) + (x >> 24)) - 510;
}

void Draw(int digit, StableRandom* random, std::string* images) {
  const Hand hand = MakeHand(random);
  const std::vector<Glyph>& glyphs = GlyphsOf(digit);
  const Glyph& glyph = glyphs[random->Below(glyphs.size())];
  const std::vector<Point> points = Place(glyph, hand, random);
  Canvas canvas(hand.radius + hand.edge);
  std::vector<Point> stroke;
  for (const char letter : glyph.strokes + " ") {
    if (letter != ' ') {
      stroke.push_back(points[letter - 'A']);
      continue;
    }
    canvas.Stroke(stroke);
    stroke.clear();
  }
  for (int i = 0; i < kSide * kSide; ++i) {
    const int covered = std::clamp(hand.radius + hand.edge / 2 - canvas.Distance(i), 0, hand.edge);
    const int value = hand.ink * covered / hand.edge + Noise(random) * hand.grain / 148;
    images->push_back(static_cast<char>(std::clamp(value, 0, 255)));
  }
}

absl::Status CheckCount(int64_t samples, absl::string_view split) {
  constexpr int64_t kMost = 0xFFFFFFFF;  // an IDX dimension has 32 bits
  if (samples >= 1 && samples <= kMost) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(samples, " ", split, " digits; ask for 1 to ", kMost));
}

absl::Status MakeSplit(const std::string& prefix, int64_t samples, uint64_t key, const std::string& folder) {
  std::string images = IdxHeader(kIdxU8, {samples, kSide, kSide}), labels = IdxHeader(kIdxU8, {samples});
  for (int64_t i = 0; i < samples; ++i) {
    StableRandom random(Mix({key, static_cast<uint64_t>(i)}));
    const int digit = static_cast<int>(random.Below(10));
    labels.push_back(static_cast<char>(digit));
    Draw(digit, &random, &images);
  }
  FileSystem* const files = FileSystem::Real();
  RETURN_IF_ERROR(WriteFileAtomically(files, JoinPath(folder, prefix + "-images-idx3-ubyte"), images));
  return WriteFileAtomically(files, JoinPath(folder, prefix + "-labels-idx1-ubyte"), labels);
}

}  // namespace

absl::Status MakeDigits(const DigitsOptions& options, const std::string& folder) {
  RETURN_IF_ERROR(CheckCount(options.train, "training"));
  RETURN_IF_ERROR(CheckCount(options.validation, "validation"));
  RETURN_IF_ERROR(FileSystem::Real()->MakeFolders(folder));
  RETURN_IF_ERROR(MakeSplit("train", options.train, Mix({kDigits, options.seed, 0}), folder));
  return MakeSplit("val", options.validation, Mix({kDigits, options.seed, 1}), folder);
}

}  // namespace lockstep
