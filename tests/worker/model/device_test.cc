#include "worker/model/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace lockstep {
namespace {

using ::testing::HasSubstr;

TEST(DeviceTest, RanksOfAHostTakeItsGpusInTurn) {
  EXPECT_EQ(*ChooseDevice(DEVICE_CUDA, 0, 2), "cuda:0");
  EXPECT_EQ(*ChooseDevice(DEVICE_CUDA, 1, 2), "cuda:1");
  EXPECT_EQ(*ChooseDevice(DEVICE_AUTO, 2, 2), "cuda:0");
  EXPECT_EQ(*ChooseDevice(DEVICE_CPU, 1, 2), "cpu");
}

TEST(DeviceTest, WithoutAGpuAutoIsTheCpuAndCudaIsRefused) {
  EXPECT_EQ(*ChooseDevice(DEVICE_AUTO, 1, 0), "cpu");
  const auto refused = ChooseDevice(DEVICE_CUDA, 1, 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status()));
  EXPECT_THAT(refused.status().message(), HasSubstr("finds none; set device to cpu or auto"));
}

TEST(DeviceTest, ARanksPlaceOnItsHostIsWhatMpirunSays) {
  unsetenv("MPI_LOCALRANKID");
  setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1", 1);
  EXPECT_EQ(PlaceOnHost(6), 1);
  unsetenv("OMPI_COMM_WORLD_LOCAL_RANK");
  EXPECT_EQ(PlaceOnHost(6), 6);
  setenv("MPI_LOCALRANKID", "2", 1);
  EXPECT_EQ(PlaceOnHost(6), 2);
  setenv("MPI_LOCALRANKID", "none", 1);
  EXPECT_EQ(PlaceOnHost(6), 6);
  unsetenv("MPI_LOCALRANKID");
}

}  // namespace
}  // namespace lockstep
