#include "worker/model/libraries.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/version.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/worker/model/reference.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

TEST(LibrariesTest, LibTorchSaysItsVersion) { EXPECT_EQ(LoadedTorch(), TORCH_VERSION); }

TEST(LibrariesTest, ABlasIsKnownByItsPath) {
  EXPECT_EQ(BlasOfPath("/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3"), "openblas");
  EXPECT_EQ(BlasOfPath("/usr/lib/libopenblasp-r0.3.21.so"), "openblas");
  EXPECT_EQ(BlasOfPath("/usr/lib/x86_64-linux-gnu/blas/libblas.so.3.11.0"), "reference");
  EXPECT_EQ(BlasOfPath("/opt/intel/mkl/lib/libmkl_rt.so.2"), "mkl");
  EXPECT_EQ(BlasOfPath("/usr/lib/x86_64-linux-gnu/blis-pthread/libblas.so.3"), "blis");
  EXPECT_EQ(BlasOfPath("/usr/lib/somewhere.so"), "unknown");
}

TEST(LibrariesTest, ThisProcessHasABlasAndIsWarnedOnlyOfTheReference) {
  EXPECT_NE(LoadedBlas(), "unknown");
  EXPECT_EQ(BlasWarning().has_value(), LoadedBlas() == "reference");
}

// Says what this process has; the test below runs it in a process with another library path.
TEST(LibrariesTest, SaysWhatBlasThisProcessHas) {
  std::cout << "BLAS: " << LoadedBlas() << "; " << BlasWarning().value_or("no warning") << std::endl;
}

TEST(LibrariesTest, TheReferenceBlasIsFoundInAProcessThatLoadsIt) {
  Dl_info info;
  ASSERT_NE(dladdr(dlsym(RTLD_DEFAULT, "sgemm_"), &info), 0);
  // Its place makes it the reference BLAS; what it computes does not matter here.
  const std::string library = TestPath("blas/libblas.so.3");
  std::filesystem::create_directories(TestPath("blas"));
  std::filesystem::copy_file(std::filesystem::canonical(info.dli_fname), library);
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = absl::StrCat("LD_LIBRARY_PATH='", TestPath("blas"), "' '", self,
                                           "' --gtest_filter=LibrariesTest.SaysWhatBlasThisProcessHas");
  FILE* const child = popen(command.c_str(), "r");
  ASSERT_NE(child, nullptr);
  std::string said;
  for (int c = fgetc(child); c != EOF; c = fgetc(child)) said.push_back(static_cast<char>(c));
  EXPECT_EQ(pclose(child), 0);
  EXPECT_THAT(said, HasSubstr(absl::StrCat(
                        "BLAS: reference; the reference BLAS is loaded (", std::filesystem::canonical(library).string(),
                        "), with which matrix products take many times longer: install libopenblas0-pthread\n")));
}

}  // namespace
}  // namespace lockstep
