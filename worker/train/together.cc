#include "worker/train/together.h"

#include <cstddef>
#include <future>
#include <utility>

#include "absl/types/span.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

enum class Word : unsigned char { kWait, kDone, kFailed };

absl::Status Tell(CommThread* comm, Word* word) {
  comm->StartBroadcast("rank 0's work", absl::MakeSpan(reinterpret_cast<std::byte*>(word), 1), /*root=*/0);
  return comm->Wait();
}

}  // namespace

absl::Status DoOnRank0(int rank, CommThread* comm, absl::Duration beat, const std::function<absl::Status()>& work) {
  if (comm == nullptr) return work();
  Word word = Word::kWait;
  if (rank != 0) {
    while (word == Word::kWait) RETURN_IF_ERROR(Tell(comm, &word));
    if (word == Word::kDone) return absl::OkStatus();
    return absl::AbortedError("rank 0 could not do its part; its own message says why");
  }
  std::future<absl::Status> result = std::async(std::launch::async, work);
  while (result.wait_for(absl::ToChronoNanoseconds(beat)) != std::future_status::ready) {
    const absl::Status told = Tell(comm, &word);
    if (told.ok()) continue;
    // The process is about to leave. A future of std::async would wait for the work first, so it is never destroyed.
    static_cast<void>(new std::future<absl::Status>(std::move(result)));
    return told;
  }
  const absl::Status status = result.get();
  word = status.ok() ? Word::kDone : Word::kFailed;
  const absl::Status told = Tell(comm, &word);
  return status.ok() ? told : status;
}

}  // namespace lockstep
