#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "worker/comm/collectives.h"
#include "worker/comm/mpi.h"

// Inside worker/comm: what the operations over MPI share.
namespace lockstep {

using Buffer = std::unique_ptr<std::byte[]>;

// Scratch memory that is used again by the next operation. Fresh memory costs a page fault every 4 KiB.
class ScratchPool {
 public:
  Buffer Take(int64_t bytes) {
    for (size_t i = 0; i < free_.size(); ++i) {
      if (free_[i].first != bytes) continue;
      Buffer buffer = std::move(free_[i].second);
      free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
      return buffer;
    }
    return Buffer(new std::byte[bytes]);
  }
  void Give(int64_t bytes, Buffer buffer) {
    if (free_.size() == kMostFree) free_.erase(free_.begin());
    free_.emplace_back(bytes, std::move(buffer));
  }

 private:
  static constexpr size_t kMostFree = 16;
  std::vector<std::pair<int64_t, Buffer>> free_;
};

// What an operation needs to know of the group it belongs to.
struct MpiGroup {
  int rank = 0, world = 1;
  std::vector<int> names;       // the ranks' in the job, for messages
  std::vector<bool> elsewhere;  // by rank: on another host than this one
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Comm tails = MPI_COMM_NULL;  // theirs, since MPI matches a communicator's collectives by their order
  MpiOptions options;
  int64_t segment_bytes = 0;  // of the options, or what fits
  ScratchPool pool;
};

// What is to be reduced, and how.
struct Reduction {
  absl::Span<std::byte> data;
  DType dtype = DType::kU8;
  ReduceOp op = ReduceOp::kSum;
  Wire wire = Wire::kExact;

  int64_t size() const { return DTypeSize(dtype); }
  bool shortened() const { return wire != Wire::kExact; }
  int64_t wire_size() const { return shortened() ? static_cast<int64_t>(sizeof(uint16_t)) : size(); }
  int64_t count() const { return static_cast<int64_t>(data.size()) / size(); }
};

// Messages that are under way at a time and tested together, each in a place of its own.
class RequestSet {
 public:
  RequestSet(const MpiGroup* group, int64_t places)
      : group_(group), requests_(places, MPI_REQUEST_NULL), completed_(places), statuses_(places), under_way_(places) {}
  absl::Status Send(const std::byte* from, int64_t bytes, int peer, int tag, int64_t place);
  absl::Status Receive(std::byte* to, int64_t bytes, int peer, int tag, int64_t place);
  // How many are done that were not before: their places are completed(0) … completed(count - 1). FailedPrecondition: a
  // peer sent more, or less, than was to be received.
  absl::StatusOr<int> Test();
  int completed(int k) const { return completed_[k]; }
  // The first kMostMessages between hosts.
  absl::Span<const Message> messages() const { return messages_; }
  static constexpr size_t kMostMessages = 64;

 private:
  struct UnderWay {
    int from = -1;  // -1: it is sent
    int64_t bytes = 0;
    int64_t message = -1;  // in messages_; -1: not there
  };

  void Begin(bool sent, int64_t bytes, int peer, int tag, int64_t place);
  absl::Status CheckReceived(const MPI_Status& status, const UnderWay& due) const;

  const MpiGroup* const group_;
  // Small messages take some microseconds: no memory for two requests.
  absl::InlinedVector<MPI_Request, 2> requests_;
  absl::InlinedVector<int, 2> completed_;
  absl::InlinedVector<MPI_Status, 2> statuses_;
  absl::InlinedVector<UnderWay, 2> under_way_;  // by place
  absl::InlinedVector<Message, 2> messages_;
};

// Slices and chunks begin at multiples of this many elements, so that no cache line has two owners.
constexpr int64_t kSliceElements = 64;

// Every operation has this many tags of its own on all ranks, since operations overtake each other. MPI promises that
// tags up to 32767 are there; by the time that they come round again, their messages are gone.
constexpr int64_t kTagsEach = 8;
constexpr int64_t kTagged = 32768 / kTagsEach;

// Exact on the wire, whatever the reduction says.
absl::StatusOr<std::unique_ptr<Operation>> StartDirectAllReduce(MpiGroup* group, Reduction reduction, int tag);
absl::StatusOr<std::unique_ptr<Operation>> StartDoublingAllReduce(MpiGroup* group, Reduction reduction, int tag);
absl::StatusOr<std::unique_ptr<Operation>> StartRingAllReduce(MpiGroup* group, Reduction reduction, int tag);
absl::StatusOr<std::unique_ptr<Operation>> StartClockExchange(MpiGroup* group, ClockExchange* exchange, int tag);

}  // namespace lockstep
