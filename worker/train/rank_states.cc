#include "worker/train/rank_states.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"

namespace lockstep {
namespace {

constexpr int64_t kPieceBytes = 16 << 20;

using Share = RankState::Share;

std::string TensorName(const RankState& state, int rank) { return absl::StrCat(state.name, "/", rank); }

int Stored(const RankState& state, int ranks) { return state.share == Share::kSame ? 1 : ranks; }

absl::Span<std::byte> Bytes(absl::Span<float> values) {
  return absl::MakeSpan(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(float));
}

// Piece by piece, and no rank goes on before both ends have a piece.
absl::Status Transfer(const std::string& name, absl::Span<std::byte> data, int64_t bytes, int from, int to,
                      CommThread* comm) {
  if (comm == nullptr) return absl::OkStatus();
  for (int64_t at = 0; at < bytes; at += kPieceBytes) {
    const int64_t count = std::min(kPieceBytes, bytes - at);
    const absl::Span<std::byte> piece = data.empty() ? data : data.subspan(at, count);
    comm->StartOperation(
        name, count, [piece, from, to](Collectives* collectives) { return collectives->Transfer(piece, from, to); });
    RETURN_IF_ERROR(comm->Wait());
    comm->StartBarrier(name);
    RETURN_IF_ERROR(comm->Wait());
  }
  return absl::OkStatus();
}

absl::Status Broadcast(const RankState& state, CommThread* comm) {
  if (comm == nullptr) return absl::OkStatus();
  const absl::Span<std::byte> bytes = Bytes(state.values);
  for (size_t at = 0; at < bytes.size(); at += kPieceBytes) {
    comm->StartBroadcast(state.name, bytes.subspan(at, kPieceBytes), /*root=*/0);
    RETURN_IF_ERROR(comm->Wait());
  }
  return absl::OkStatus();
}

// The bytes of `<name>/<rank>`, to be read only.
absl::Span<std::byte> StoredBytes(const SafetensorsFile& file, const RankState& state, int rank) {
  const absl::string_view bytes = file.data(*file.Find(TensorName(state, rank)));
  return absl::MakeSpan(reinterpret_cast<std::byte*>(const_cast<char*>(bytes.data())), bytes.size());
}

// What each of `world` ranks gets of the states of `stored_ranks` others; one rank's, bit by bit, if it is no sum.
void ShareOut(const SafetensorsFile& file, int stored_ranks, int world, const RankState& state) {
  std::vector<double> sum(state.values.size());
  std::vector<float> values(state.values.size());
  for (int rank = 0; rank < stored_ranks; ++rank) {
    const absl::Span<std::byte> bytes = StoredBytes(file, state, rank);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
  }
  const double parts = state.share == Share::kSum ? world : stored_ranks;
  for (size_t i = 0; i < sum.size(); ++i) state.values[i] = static_cast<float>(sum[i] / parts);
}

// On rank 0: this rank's own, out of the file.
void Take(const SafetensorsFile& file, const RankState& state) {
  const absl::Span<std::byte> own = StoredBytes(file, state, 0);
  std::memcpy(state.values.data(), own.data(), own.size());
}

}  // namespace

absl::Status GatherRankStates(const std::vector<RankState>& states, int rank, int world, CommThread* comm,
                              std::string* file) {
  std::vector<TensorInfo> tensors;
  for (const RankState& state : states) {
    for (int from = 0; from < Stored(state, world); ++from) {
      tensors.push_back({TensorName(state, from), "F32", {static_cast<int64_t>(state.values.size())}});
    }
  }
  if (tensors.empty() || rank != 0) file->clear();
  if (tensors.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string header, MakeSafetensorsHeader(&tensors, {{"format", "pt"}}));
  if (rank == 0) {
    file->resize(header.size() + tensors.back().end);
    std::memcpy(file->data(), header.data(), header.size());
  }
  size_t tensor = 0;
  for (const RankState& state : states) {
    const absl::Span<std::byte> own = Bytes(state.values);
    for (int from = 0; from < Stored(state, world); ++from, ++tensor) {
      absl::Span<std::byte> place;
      if (rank == 0) {
        auto* const begin = reinterpret_cast<std::byte*>(file->data()) + header.size() + tensors[tensor].begin;
        place = absl::MakeSpan(begin, own.size());
      }
      if (from == 0 && rank == 0) std::copy(own.begin(), own.end(), place.begin());
      if (from == 0) continue;
      RETURN_IF_ERROR(Transfer(TensorName(state, from), rank == from ? own : place, static_cast<int64_t>(own.size()),
                               from, /*to=*/0, comm));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int>> CheckRankStates(const SafetensorsFile& file, const std::vector<RankState>& states) {
  const auto wrong = [](absl::string_view what) { return absl::DataLossError(absl::StrCat(kRanksFile, ": ", what)); };
  std::vector<int> stored;
  size_t taken = 0;
  for (const RankState& state : states) {
    int ranks = 0;
    for (;; ++ranks, ++taken) {
      const std::string name = TensorName(state, ranks);
      const TensorInfo* const tensor = file.Find(name);
      if (tensor == nullptr) break;
      const auto size = static_cast<int64_t>(state.values.size());
      if (tensor->dtype == "F32" && tensor->shape == std::vector<int64_t>{size}) continue;
      return wrong(absl::StrCat("'", name, "' is ", tensor->dtype, " [", absl::StrJoin(tensor->shape, ", "),
                                "], this run's is F32 [", size, "]"));
    }
    stored.push_back(ranks);
  }
  if (taken == file.header.tensors.size()) return stored;
  return wrong(absl::StrCat(file.header.tensors.size(), " tensors, of which this run knows ", taken,
                            ": a part is missing, or it belongs to another communication.compression or "
                            "communication.period"));
}

absl::Status GiveRankStates(const SafetensorsFile& file, std::vector<int> stored, const std::vector<RankState>& states,
                            int rank, int world, CommThread* comm) {
  if (states.empty()) return absl::OkStatus();
  stored.resize(states.size());  // only rank 0 knows
  if (comm != nullptr) {
    comm->StartBroadcast("stored ranks",
                         absl::MakeSpan(reinterpret_cast<std::byte*>(stored.data()), stored.size() * sizeof(int)), 0);
    RETURN_IF_ERROR(comm->Wait());
  }
  for (size_t i = 0; i < states.size(); ++i) {
    const RankState& state = states[i];
    if (stored[i] == 0) continue;
    if (state.share == Share::kSame || stored[i] != world) {
      if (rank == 0) ShareOut(file, stored[i], world, state);
      RETURN_IF_ERROR(Broadcast(state, comm));
      continue;
    }
    if (rank == 0) Take(file, state);
    const absl::Span<std::byte> values = Bytes(state.values);
    for (int to = 1; to < world; ++to) {
      const absl::Span<std::byte> place = rank == 0 ? StoredBytes(file, state, to) : values;
      RETURN_IF_ERROR(
          Transfer(TensorName(state, to), place, static_cast<int64_t>(values.size()), /*from=*/0, to, comm));
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep
