// Collectives by non-blocking calls of MPI alone.
//
// An all-reduce goes one of five ways, by its size: by MPI_Iallreduce, whatever the library makes of it, or by ours,
// over messages: gathered whole (one round), by recursive doubling (log2(n) rounds), reduced directly (two rounds) or
// in a ring (2(n-1) rounds). Median milliseconds of an all-reduce of float32, by `lockstep bench allreduce`, on 4
// emulated hosts with links of 1 Gbit (119 MB/s), all on one 2-core machine, and on 2 ranks of that machine alone:
//
//              4 hosts                                      2 ranks of one host
//      bytes   MPI_Allreduce  doubling   direct    ring     MPI_Allreduce  doubling   direct     ring
//        1 K           0.168     0.172    0.273     0.446           0.001     0.003    0.005    0.005
//       16 K           0.303     0.254    0.323     0.859           0.016     0.012    0.018    0.012
//       64 K           0.855     1.142    0.878     0.996           0.027     0.026    0.027    0.062
//      256 K           3.337     5.067    3.369     3.386           0.067     0.071    0.068    0.101
//        1 M          17.846    35.149   12.705    12.639           0.201     0.254    0.209    0.235
//        4 M          98.203         -        -    52.759           0.787     1.091    0.914    0.799
//
// A sum with a shorter format on the wire goes in a ring, if it is not so small that only latency counts.
//
// The step's tail goes by MPI_Iallgather, then every rank adds up in rank order: one round; at 1,024 ranks a tail
// gathers 128 KiB.
//
// What the library is asked for in sizes that a caller chooses goes through CheckedCalls.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/comm/local_collectives.h"
#include "worker/comm/mpi_check.h"
#include "worker/comm/mpi_checked.h"
#include "worker/comm/mpi_group.h"
#include "worker/comm/mpi_hosts.h"
#include "worker/comm/mpi_words.h"
#include "worker/comm/reduce.h"

namespace lockstep {
namespace {

// Everyone's bytes to everyone; `merge` then makes the result out of world · bytes, in rank order.
class GatherAndMerge : public Operation {
 public:
  using MergeFn = std::function<void(std::byte* gathered)>;
  GatherAndMerge(MpiGroup* group, int64_t bytes, MergeFn merge)
      : group_(group), bytes_(bytes), merge_(std::move(merge)), gathered_(group->pool.Take(bytes * group->world)) {}
  ~GatherAndMerge() override { group_->pool.Give(bytes_ * group_->world, std::move(gathered_)); }

  absl::Status Start(const void* own, MPI_Comm comm) {
    const int count = static_cast<int>(bytes_);
    return CheckMpi(MPI_Iallgather(own, count, MPI_BYTE, gathered_.get(), count, MPI_BYTE, comm, &request_),
                    "MPI_Iallgather");
  }

  int64_t wire_bytes() const override { return bytes_ * (group_->world - 1); }
  absl::string_view algorithm() const override { return WayName(Way::kGather); }

  absl::StatusOr<bool> Poll() override {
    int done = 0;
    RETURN_IF_ERROR(CheckMpi(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (done) merge_(gathered_.get());
    return done != 0;
  }

 private:
  MpiGroup* const group_;
  const int64_t bytes_;
  const MergeFn merge_;
  Buffer gathered_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

// Requests alone: a barrier, or a broadcast in as many calls as its size needs.
class RequestList : public Operation {
 public:
  explicit RequestList(int64_t wire_bytes, Way way = Way::kLibrary) : wire_bytes_(wire_bytes), way_(way) {}
  int64_t wire_bytes() const override { return wire_bytes_; }
  absl::string_view algorithm() const override { return WayName(way_); }
  MPI_Request* Add() { return &requests_.emplace_back(MPI_REQUEST_NULL); }
  absl::StatusOr<bool> Poll() override {
    int done = 0;
    RETURN_IF_ERROR(CheckMpi(
        MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall"));
    return done != 0;
  }

 private:
  const int64_t wire_bytes_;
  const Way way_;
  std::vector<MPI_Request> requests_;
};

MPI_Datatype TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return MPI_FLOAT;
    case DType::kF64:
      return MPI_DOUBLE;
    case DType::kI64:
      return MPI_INT64_T;
    case DType::kU64:
      return MPI_UINT64_T;
    case DType::kU8:
      return MPI_UINT8_T;
  }
  return MPI_DATATYPE_NULL;
}

class MpiCollectives : public Collectives {
 public:
  MpiCollectives(std::unique_ptr<MpiGroup> group, MPI_Comm words, MPI_Comm calls)
      : group_(std::move(group)), words_(words), library_(words, calls) {}
  int rank() const override { return group_->rank; }
  int world() const override { return group_->world; }
  int JobRank(int rank) const override { return group_->names[rank]; }
  std::string algorithm() const override { return "mpi"; }
  void SetWays(const WayTable& ways) override { group_->options.ways = ways; }

  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(absl::Span<std::byte> data, DType dtype, ReduceOp op,
                                                       Wire wire) override;
  absl::StatusOr<std::unique_ptr<Operation>> AllReduceTail(StepTail* tail) override;
  absl::StatusOr<std::unique_ptr<Operation>> Broadcast(absl::Span<std::byte> data, int root) override;
  absl::StatusOr<std::unique_ptr<Operation>> AllGather(absl::Span<const std::byte> own,
                                                       absl::Span<std::byte> all) override;
  absl::StatusOr<std::unique_ptr<Operation>> Transfer(absl::Span<std::byte> data, int from, int to) override;
  absl::StatusOr<std::unique_ptr<Operation>> Barrier() override;
  absl::StatusOr<std::unique_ptr<Operation>> ExchangeClocks(ClockExchange* exchange) override {
    return StartClockExchange(group_.get(), exchange, NextTag());
  }
  absl::Status Tell(int rank, const RollWord& word) override { return words_.Tell(rank, word); }
  absl::StatusOr<int> Hear(RollWord* word) override { return words_.Hear(word); }

 private:
  Way WayOf(const Reduction& reduction) const;
  int NextTag() { return static_cast<int>(tagged_++ % kTagged * kTagsEach); }
  absl::StatusOr<std::unique_ptr<Operation>> Checked(LibraryCall::Kind kind, int64_t bytes, int64_t detail,
                                                     CheckedCalls::StartFn start) {
    return library_.Start({0, kind, bytes, detail}, group_->rank, &group_->names, std::move(start));
  }
  absl::StatusOr<std::unique_ptr<Operation>> StartLibrary(const Reduction& reduction, MPI_Comm comm) const;
  absl::StatusOr<std::unique_ptr<Operation>> StartGather(const Reduction& reduction);

  const std::unique_ptr<MpiGroup> group_;
  MpiWords words_;
  CheckedCalls library_;
  int64_t tagged_ = 0;  // operations started, for tags
};

Way MpiCollectives::WayOf(const Reduction& reduction) const {
  const int64_t bytes = static_cast<int64_t>(reduction.data.size());
  const Way way = FindWay(group_->options.ways, bytes);
  // What MPI makes of a minimum with a NaN is its own affair; ours is defined.
  const bool not_for_library = way == Way::kLibrary && reduction.op != ReduceOp::kSum;
  // All of it in one message, which MPI counts in int.
  const bool too_large = (way == Way::kGather || way == Way::kDoubling) && bytes > std::numeric_limits<int>::max();
  return not_for_library || too_large ? FindWay(RingWays(), bytes) : way;
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::AllReduce(absl::Span<std::byte> data, DType dtype,
                                                                     ReduceOp op, Wire wire) {
  if (data.empty()) return std::make_unique<RequestList>(0);
  const Reduction reduction = {data, dtype, op, wire};
  const int64_t bytes = static_cast<int64_t>(data.size());
  if (reduction.shortened()) {
    if (dtype != DType::kF32 || op != ReduceOp::kSum) {
      return absl::InvalidArgumentError("only a float32 sum can have a shorter format on the wire");
    }
    if (bytes >= group_->options.shorten_from_bytes * group_->world) {
      return StartRingAllReduce(group_.get(), reduction, NextTag());
    }
  }
  const Reduction exact = {data, dtype, op};
  const Way way = WayOf(exact);
  if (way == Way::kLibrary) {
    return Checked(LibraryCall::kAllReduce, bytes, static_cast<int64_t>(dtype),
                   [this, exact](MPI_Comm comm) { return StartLibrary(exact, comm); });
  }
  if (way == Way::kGather) return StartGather(exact);
  if (way == Way::kDoubling) return StartDoublingAllReduce(group_.get(), exact, NextTag());
  return way == Way::kDirect ? StartDirectAllReduce(group_.get(), exact, NextTag())
                             : StartRingAllReduce(group_.get(), exact, NextTag());
}

// In as many calls as MPI's counts, which are int, ask for.
absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::StartLibrary(const Reduction& reduction,
                                                                        MPI_Comm comm) const {
  // What a library sends is its own affair: this is the least that an all-reduce needs.
  const int64_t bytes = static_cast<int64_t>(reduction.data.size());
  auto operation = std::make_unique<RequestList>(2 * bytes * (group_->world - 1) / group_->world);
  const int64_t most = group_->options.library_bytes / reduction.size();
  for (int64_t first = 0; first < reduction.count(); first += most) {
    const int count = static_cast<int>(std::min(most, reduction.count() - first));
    RETURN_IF_ERROR(CheckMpi(MPI_Iallreduce(MPI_IN_PLACE, reduction.data.data() + first * reduction.size(), count,
                                            TypeOf(reduction.dtype), MPI_SUM, comm, operation->Add()),
                             "MPI_Iallreduce"));
  }
  return operation;
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::StartGather(const Reduction& reduction) {
  const int64_t bytes = static_cast<int64_t>(reduction.data.size());
  auto merge = [reduction, bytes, world = group_->world](const std::byte* gathered) {
    std::copy(gathered, gathered + bytes, reduction.data.data());
    for (int rank = 1; rank < world; ++rank) {
      Reduce(reduction.data.data(), gathered + rank * bytes, reduction.count(), reduction.dtype, reduction.op);
    }
  };
  auto operation = std::make_unique<GatherAndMerge>(group_.get(), bytes, std::move(merge));
  RETURN_IF_ERROR(operation->Start(reduction.data.data(), group_->comm));
  return operation;
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::AllReduceTail(StepTail* tail) {
  auto merge = [tail, world = group_->world](const std::byte* gathered) {
    StepTail one;
    std::copy(gathered, gathered + sizeof(StepTail), reinterpret_cast<std::byte*>(tail));
    for (int rank = 1; rank < world; ++rank) {
      const std::byte* const from = gathered + rank * sizeof(StepTail);
      std::copy(from, from + sizeof(StepTail), reinterpret_cast<std::byte*>(&one));
      MergeTail(one, tail);
    }
  };
  auto operation = std::make_unique<GatherAndMerge>(group_.get(), sizeof(StepTail), std::move(merge));
  RETURN_IF_ERROR(operation->Start(tail, group_->tails));
  return operation;
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::Broadcast(absl::Span<std::byte> data, int root) {
  const int64_t bytes = static_cast<int64_t>(data.size());
  auto start = [data, bytes, root,
                most = group_->options.library_bytes](MPI_Comm comm) -> absl::StatusOr<std::unique_ptr<Operation>> {
    auto operation = std::make_unique<RequestList>(bytes);
    for (int64_t at = 0; at < bytes; at += most) {
      const int count = static_cast<int>(std::min(most, bytes - at));
      RETURN_IF_ERROR(
          CheckMpi(MPI_Ibcast(data.data() + at, count, MPI_BYTE, root, comm, operation->Add()), "MPI_Ibcast"));
    }
    return operation;
  };
  return Checked(LibraryCall::kBroadcast, bytes, root, std::move(start));
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::Transfer(absl::Span<std::byte> data, int from, int to) {
  const int tag = NextTag();
  if (from == to || (group_->rank != from && group_->rank != to)) return std::make_unique<RequestList>(0);
  const int64_t bytes = static_cast<int64_t>(data.size());
  const bool sends = group_->rank == from;
  auto operation = std::make_unique<RequestList>(sends ? bytes : 0);
  for (int64_t at = 0; at < bytes; at += group_->options.library_bytes) {
    const int count = static_cast<int>(std::min(group_->options.library_bytes, bytes - at));
    std::byte* const part = data.data() + at;
    MPI_Request* const request = operation->Add();
    RETURN_IF_ERROR(sends ? CheckMpi(MPI_Isend(part, count, MPI_BYTE, to, tag, group_->comm, request), "MPI_Isend")
                          : CheckMpi(MPI_Irecv(part, count, MPI_BYTE, from, tag, group_->comm, request), "MPI_Irecv"));
  }
  return operation;
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::Barrier() {
  auto operation = std::make_unique<RequestList>(0);
  RETURN_IF_ERROR(CheckMpi(MPI_Ibarrier(group_->comm, operation->Add()), "MPI_Ibarrier"));
  return operation;
}

absl::StatusOr<std::unique_ptr<Operation>> MpiCollectives::AllGather(absl::Span<const std::byte> own,
                                                                     absl::Span<std::byte> all) {
  const int64_t bytes = static_cast<int64_t>(own.size());
  if (bytes > std::numeric_limits<int>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("an all-gather of ", bytes, " bytes a rank; MPI counts in int"));
  }
  auto start = [own, all, bytes,
                peers = group_->world - 1](MPI_Comm comm) -> absl::StatusOr<std::unique_ptr<Operation>> {
    auto operation = std::make_unique<RequestList>(bytes * peers, Way::kGather);
    const int count = static_cast<int>(bytes);
    RETURN_IF_ERROR(
        CheckMpi(MPI_Iallgather(own.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE, comm, operation->Add()),
                 "MPI_Iallgather"));
    return operation;
  };
  return Checked(LibraryCall::kAllGather, bytes, 0, std::move(start));
}

// A communicator of all ranks. Past the deadline MPI may still write to it: it is then never freed.
absl::StatusOr<MPI_Comm> Duplicate(int64_t until_ns) {
  MPI_Request request = MPI_REQUEST_NULL;
  auto comm = std::make_unique<MPI_Comm>(MPI_COMM_NULL);
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_idup(MPI_COMM_WORLD, comm.get(), &request), "MPI_Comm_idup"));
  for (int done = 0; !done;) {
    RETURN_IF_ERROR(CheckMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (done || MonotonicNanos() < until_ns) continue;
    comm.release();
    return absl::DeadlineExceededError(
        "not all ranks have come to make a communicator: one is late, or no link leads to it (lockstep doctor looks)");
  }
  return *comm;
}

// One for those of the same part; MPI_COMM_NULL for those of none. MPI has no call for it that does not block, so it
// has a thread of its own; past the deadline that is left where it is, and the process leaves.
absl::StatusOr<MPI_Comm> Split(const MpiPart& part, int64_t until_ns) {
  ASSIGN_OR_RETURN(const MPI_Comm all, Duplicate(until_ns));
  struct Result {
    MPI_Comm comm = MPI_COMM_NULL;
    std::promise<int> code;
  };
  const auto result = std::make_shared<Result>();
  std::future<int> code = result->code.get_future();
  std::thread([result, all, part] {
    const int color = part.group < 0 ? MPI_UNDEFINED : part.group;
    result->code.set_value(MPI_Comm_split(all, color, part.order, &result->comm));
  }).detach();
  if (code.wait_for(std::chrono::nanoseconds(until_ns - MonotonicNanos())) != std::future_status::ready) {
    return absl::DeadlineExceededError("not all ranks have come to form groups");
  }
  RETURN_IF_ERROR(CheckMpi(code.get(), "MPI_Comm_split"));
  return result->comm;
}

absl::StatusOr<MPI_Comm> MakeComm(const MpiOptions& options, int64_t until_ns) {
  absl::StatusOr<MPI_Comm> comm = options.part.has_value() ? Split(*options.part, until_ns) : Duplicate(until_ns);
  if (!comm.ok() || *comm == MPI_COMM_NULL) return comm;
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_set_errhandler(*comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
  return comm;
}

// Who is in it, by rank: their ranks in the job.
absl::StatusOr<std::vector<int>> Names(MPI_Comm comm) {
  MPI_Group group = MPI_GROUP_NULL, job = MPI_GROUP_NULL;
  int size = 0;
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_size(comm, &size), "MPI_Comm_size"));
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_group(comm, &group), "MPI_Comm_group"));
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_group(MPI_COMM_WORLD, &job), "MPI_Comm_group"));
  std::vector<int> own(size), names(size);
  std::iota(own.begin(), own.end(), 0);
  RETURN_IF_ERROR(
      CheckMpi(MPI_Group_translate_ranks(group, size, own.data(), job, names.data()), "MPI_Group_translate_ranks"));
  RETURN_IF_ERROR(CheckMpi(MPI_Group_free(&group), "MPI_Group_free"));
  RETURN_IF_ERROR(CheckMpi(MPI_Group_free(&job), "MPI_Group_free"));
  return names;
}

// By rank: whether it is on another host than this one.
absl::StatusOr<std::vector<bool>> Elsewhere(const MpiGroup& group, int64_t until_ns) {
  const HostIdentity own = OwnHostIdentity();
  const absl::Duration left = absl::Nanoseconds(until_ns - MonotonicNanos());
  ASSIGN_OR_RETURN(const std::vector<HostIdentity> all, GatherEach(own, group.world, group.comm, left));
  std::vector<bool> elsewhere;
  for (const HostIdentity& one : all) elsewhere.push_back(one.text != absl::string_view(own.text));
  return elsewhere;
}

absl::StatusOr<std::unique_ptr<MpiGroup>> MakeGroup(const MpiOptions& options, MPI_Comm* words, MPI_Comm* calls) {
  const int64_t until_ns = MonotonicNanos() + absl::ToInt64Nanoseconds(options.setup_timeout);
  auto group = std::make_unique<MpiGroup>();
  group->options = options;
  ASSIGN_OR_RETURN(group->comm, MakeComm(options, until_ns));
  ASSIGN_OR_RETURN(group->tails, MakeComm(options, until_ns));
  ASSIGN_OR_RETURN(*words, MakeComm(options, until_ns));
  ASSIGN_OR_RETURN(*calls, MakeComm(options, until_ns));
  if (group->comm == MPI_COMM_NULL) return group;
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_rank(group->comm, &group->rank), "MPI_Comm_rank"));
  ASSIGN_OR_RETURN(group->names, Names(group->comm));
  group->world = static_cast<int>(group->names.size());
  ASSIGN_OR_RETURN(group->elsewhere, Elsewhere(*group, until_ns));
  const bool one_host = std::count(group->elsewhere.begin(), group->elsewhere.end(), true) == 0;
  const int64_t fits = one_host ? kHostSegmentBytes : kLinkSegmentBytes;
  group->segment_bytes = options.segment_bytes > 0 ? options.segment_bytes : fits;
  return group;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Collectives>> NewMpiCollectives(const MpiOptions& options) {
  int world = 1;
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_size(MPI_COMM_WORLD, &world), "MPI_Comm_size"));
  if (world == 1) return NewLocalCollectives();
  MPI_Comm words = MPI_COMM_NULL, calls = MPI_COMM_NULL;
  absl::StatusOr<std::unique_ptr<MpiGroup>> group = MakeGroup(options, &words, &calls);
  if (!group.ok()) {
    return Annotate(group.status(), absl::StrCat("within ", absl::FormatDuration(options.setup_timeout)));
  }
  if ((*group)->comm == MPI_COMM_NULL) return std::unique_ptr<Collectives>();
  if ((*group)->world == 1) return NewLocalCollectives();
  return std::make_unique<MpiCollectives>(*std::move(group), words, calls);
}

}  // namespace lockstep
