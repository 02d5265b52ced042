#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "lockstep/control.pb.h"

namespace lockstep {

// The last few hundred things that a person wants to read as they happen. Not thread-safe.
class EventLog {
 public:
  static constexpr size_t kKept = 512;

  void Add(double time, const EpochLine& epoch) { *Next(time)->mutable_epoch() = epoch; }
  void Add(double time, const Decision& decision) { *Next(time)->mutable_decision() = decision; }
  void Add(double time, const CheckpointCommitted& checkpoint) { *Next(time)->mutable_checkpoint() = checkpoint; }
  void Add(double time, const std::string& note) { Next(time)->set_note(note); }

  // Those with a number above `after`, in order.
  void CopyTo(int64_t after, google::protobuf::RepeatedPtrField<Event>* events) const;

 private:
  Event* Next(double time);

  std::deque<Event> events_;
  int64_t last_ = 0;
};

}  // namespace lockstep
