#include "worker/model/libraries.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <dlfcn.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace lockstep {
namespace {

// The file from which the dynamic linker takes the matrix product, links resolved; empty: from none.
std::string LibraryOfSgemm() {
  void* const symbol = dlsym(RTLD_DEFAULT, "sgemm_");
  Dl_info info;
  if (symbol == nullptr || dladdr(symbol, &info) == 0 || info.dli_fname == nullptr) return "";
  std::error_code error;
  const std::filesystem::path resolved = std::filesystem::canonical(info.dli_fname, error);
  return error ? info.dli_fname : resolved.string();
}

}  // namespace

std::string LoadedTorch() {
  const std::string settings = at::show_config();  // …, TORCH_VERSION=1.13.0, USE_CUDA=OFF, …
  for (absl::string_view setting : absl::StrSplit(settings, absl::ByAnyChar(", \n"))) {
    if (absl::ConsumePrefix(&setting, "TORCH_VERSION=")) return std::string(setting);
  }
  return "unknown";
}

std::string BlasOfPath(absl::string_view path) {
  // Debian puts each library's libblas.so.3 into a folder of its name: …/openblas-pthread/libblas.so.3.
  for (const char* name : {"openblas", "mkl", "blis", "atlas"}) {
    if (absl::StrContains(path, name)) return name;
  }
  if (absl::StrContains(path, "libblas.so") || absl::StrContains(path, "librefblas")) return "reference";
  return "unknown";
}

std::string LoadedBlas() {
  const std::string library = LibraryOfSgemm();
  if (library.empty() || absl::StrContains(library, "libtorch")) return at::hasMKL() ? "mkl" : "built-in";
  return BlasOfPath(library);
}

std::optional<std::string> BlasWarning() {
  if (LoadedBlas() != "reference") return std::nullopt;
  return absl::StrCat("the reference BLAS is loaded (", LibraryOfSgemm(),
                      "), with which matrix products take many times longer: install libopenblas0-pthread");
}

}  // namespace lockstep
