#include "tests/worker/model/reference.h"

#include <gtest/gtest.h>
#include <torch/utils.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/checkpoint/safetensors.h"
#include "worker/model/weights.h"

namespace lockstep {

std::string TestPath(absl::string_view name) {
  static const std::string* const folder = [] {
    auto* path = new std::string(absl::StrCat(::testing::TempDir(), "worker_model_test-", getpid()));
    std::filesystem::create_directories(*path);
    std::atexit([] { std::filesystem::remove_all(TestPath("")); });
    return path;
  }();
  return absl::StrCat(*folder, "/", name);
}

void RunReference(const std::vector<std::string>& arguments) {
  std::string command = "OMP_NUM_THREADS=1 /usr/bin/python3 tests/worker/model/reference.py";
  for (const std::string& argument : arguments) absl::StrAppend(&command, " '", argument, "'");
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
}

const std::string& ScriptsFolder() {
  static const std::string* const folder = [] {
    auto* path = new std::string(TestPath("scripts"));
    std::filesystem::create_directories(*path);
    RunReference({"scripts", *path});
    return path;
  }();
  return *folder;
}

void WriteTensors(const std::string& path, const Tensors& tensors) {
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors) {
    infos.push_back({name, tensor.scalar_type() == torch::kInt64 ? "I64" : "F32", tensor.sizes().vec()});
  }
  const auto header = MakeSafetensorsHeader(&infos, {});
  ASSERT_TRUE(header.ok()) << header.status();
  std::ofstream file(path, std::ios::binary);
  file << *header;
  for (const auto& [name, tensor] : tensors) {
    const torch::Tensor values = tensor.detach().contiguous();
    file.write(static_cast<const char*>(values.data_ptr()), static_cast<std::streamsize>(values.nbytes()));
  }
  ASSERT_TRUE(file.flush()) << path;
}

Tensors ReadTensors(const std::string& path) {
  Tensors tensors;
  const auto file = ReadSafetensors(path);
  EXPECT_TRUE(file.ok()) << file.status();
  if (!file.ok()) return tensors;
  for (const TensorInfo& info : file->header.tensors) {
    torch::Tensor tensor = torch::empty(info.shape, info.dtype == "I64" ? torch::kInt64 : torch::kFloat32);
    std::memcpy(tensor.data_ptr(), file->data(info).data(), file->data(info).size());
    tensors[info.name] = tensor;
  }
  return tensors;
}

void WriteNetwork(const std::string& path, const Network& network, const Tensors& more) {
  Tensors all = more;
  const SavedWeights weights = SaveWeights(network, /*copy=*/false);
  for (size_t i = 0; i < weights.tensors.size(); ++i) all[weights.tensors[i].name] = weights.values[i];
  WriteTensors(path, all);
}

torch::Tensor SomeFloats(const std::vector<int64_t>& shape) {
  torch::manual_seed(11);
  return torch::rand(shape) * 2 - 1;
}

}  // namespace lockstep
