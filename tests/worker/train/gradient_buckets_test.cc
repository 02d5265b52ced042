#include "worker/train/gradient_buckets.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "tests/support/thread_collectives.h"
#include "tests/worker/train/fakes.h"
#include "worker/train/buffer_average.h"

namespace lockstep {
namespace {

constexpr int64_t kBatch = 12;
constexpr double kSmallBuckets = 20 * sizeof(float) / (1024.0 * 1024.0);

torch::Tensor Inputs(int64_t step) {
  return torch::randn({kBatch, OddNetwork::kValues}, at::detail::createCPUGenerator(100 + step));
}

torch::Tensor MeanSquare(const torch::Tensor& output) { return output.square().sum(1).mean(); }

// Gradients of the whole batch, by plain autograd: in order of registration, zeros where there is none.
std::vector<torch::Tensor> PlainGradients(int64_t step) {
  OddNetwork network(1);
  MeanSquare(*network.Forward(Inputs(step))).backward();
  std::vector<torch::Tensor> gradients;
  for (const NamedTensor& parameter : network.parameters()) {
    const torch::Tensor gradient = parameter.tensor.grad();
    gradients.push_back(gradient.defined() ? gradient.clone() : torch::zeros_like(parameter.tensor));
  }
  return gradients;
}

std::unique_ptr<FlatParameters> FlatOf(const Network& network) {
  return std::make_unique<FlatParameters>(*FlatParameters::LayoutOf(network, Optimizer()), network);
}

// What Update hands out on this rank; -1 elsewhere.
std::vector<float> Collect(const ParameterLayout& layout, GradientExchange* exchange) {
  std::vector<float> flat(layout.elements(), -1.0f);
  const auto serial = [](int64_t begin, int64_t end, const std::function<void(int64_t, int64_t)>& body) {
    body(begin, end);
  };
  EXPECT_TRUE(exchange
                  ->Update(serial,
                           [&](const float* gradients, int64_t first, int64_t count) {
                             std::memcpy(flat.data() + first, gradients + first, count * sizeof(float));
                           })
                  .ok());
  return flat;
}

void ExpectGradients(const ParameterLayout& layout, const std::vector<float>& flat,
                     const std::vector<torch::Tensor>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const ParameterSegment& segment = layout.segments()[expected.size() - 1 - i];
    const torch::Tensor values = expected[i].contiguous();
    for (int64_t k = 0; k < segment.count; ++k) {
      ASSERT_NEAR(flat[segment.first + k], values.data_ptr<float>()[k], 1e-5) << segment.name << " element " << k;
    }
  }
}

// Every rank a thread with its own network; `begin[r]` is where its share of the batch begins.
void RunRanks(int world, const std::vector<int64_t>& begin) {
  ThreadGroup group(world);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < world; ++rank) {
    ranks.emplace_back([&, rank] {
      const std::unique_ptr<Collectives> collectives = group.Rank(rank);
      CommThread comm(collectives.get(), absl::Seconds(20));
      OddNetwork network(1);
      const auto parameters = FlatOf(network);
      const auto exchange = NewReplicatedExchange(&parameters->layout(), &comm);
      GradientBuckets buckets(parameters.get(), exchange.get(), kSmallBuckets);
      EXPECT_GT(buckets.buckets(), 1);
      for (int64_t step = 0; step < 3; ++step) {
        const int64_t samples = begin[rank + 1] - begin[rank];
        exchange->BeginStep(step + 1);
        buckets.Begin();
        if (samples > 0) {
          const torch::Tensor part = Inputs(step).narrow(0, begin[rank], samples);
          const torch::Tensor loss = MeanSquare(*network.Forward(part));
          loss.backward(torch::full_like(loss, static_cast<double>(samples) / kBatch));
        }
        buckets.Finish();
        ASSERT_TRUE(comm.Wait().ok());
        EXPECT_EQ(comm.TakeSpans().size(), static_cast<size_t>(buckets.buckets()));
        ExpectGradients(parameters->layout(), Collect(parameters->layout(), exchange.get()), PlainGradients(step));
        for (const NamedTensor& parameter : network.parameters()) EXPECT_FALSE(parameter.tensor.grad().defined());
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST(GradientBucketsTest, AloneGradientsAreThoseOfAutograd) {
  OddNetwork network(1);
  const auto parameters = FlatOf(network);
  const auto exchange = NewReplicatedExchange(&parameters->layout(), nullptr);
  GradientBuckets buckets(parameters.get(), exchange.get(), 25);
  for (int64_t step = 0; step < 3; ++step) {
    exchange->BeginStep(step + 1);
    buckets.Begin();
    MeanSquare(*network.Forward(Inputs(step))).backward();
    buckets.Finish();
    ExpectGradients(parameters->layout(), Collect(parameters->layout(), exchange.get()), PlainGradients(step));
  }
}

TEST(GradientBucketsTest, WithOthersTheyAreThoseOfTheWholeBatchForAnyShares) {
  RunRanks(1, {0, 12});
  RunRanks(2, {0, 6, 12});
  RunRanks(2, {0, 1, 12});
}

TEST(GradientBucketsTest, ARankWithoutSamplesAddsNothing) { RunRanks(3, {0, 0, 5, 12}); }

TEST(GradientBucketsTest, TheHooksGoWithTheBuckets) {
  OddNetwork network(1);
  const auto parameters = FlatOf(network);
  const auto exchange = NewReplicatedExchange(&parameters->layout(), nullptr);
  { GradientBuckets buckets(parameters.get(), exchange.get(), 25); }
  MeanSquare(*network.Forward(Inputs(0))).backward();
  EXPECT_TRUE(network.parameters()[0].tensor.grad().defined());
}

TEST(FlatParametersTest, TheNetworkReadsWhatIsWrittenToTheFlatArray) {
  OddNetwork network(1);
  const auto parameters = FlatOf(network);
  const ParameterSegment& last = parameters->layout().segments()[0];
  EXPECT_EQ(last.name, "decoder.bias");
  parameters->data()[last.first + 2] = 42;
  EXPECT_EQ(network.parameters()[3].tensor[2].item<float>(), 42);
}

TEST(BufferAverageTest, FloatsAreWeightedBySamplesAndIntegersTakeTheLargestWhereSomeoneWasIdle) {
  const std::vector<double> shares = {0, 0.25, 0.75};
  ThreadGroup group(3);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.emplace_back([&, rank] {
      const std::unique_ptr<Collectives> collectives = group.Rank(rank);
      CommThread comm(collectives.get(), absl::Seconds(20));
      OddNetwork network(1);
      torch::Tensor mean = network.buffers()[0].tensor, batches = network.buffers()[1].tensor;
      mean.fill_(rank * 4);
      batches.fill_(rank == 0 ? 0 : 1);
      BufferAverage average(network, &comm);
      average.Start(shares[rank], /*some_idle=*/true);
      ASSERT_TRUE(comm.Wait().ok());
      average.Finish();
      EXPECT_FLOAT_EQ(mean[0].item<float>(), 7);
      EXPECT_EQ(batches.item<int64_t>(), 1);
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

}  // namespace
}  // namespace lockstep
