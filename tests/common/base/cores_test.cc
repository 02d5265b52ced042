#include "common/base/cores.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(CoresTest, ThisProcessMayRunSomewhere) {
  EXPECT_GE(UsableCores(), 1);
  EXPECT_GE(UsableCores(), PhysicalCores());
}

}  // namespace
}  // namespace lockstep
