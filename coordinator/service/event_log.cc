#include "coordinator/service/event_log.h"

namespace lockstep {

Event* EventLog::Next(double time) {
  if (events_.size() >= kKept) events_.pop_front();
  Event& event = events_.emplace_back();
  event.set_number(++last_);
  event.set_time(time);
  return &event;
}

void EventLog::CopyTo(int64_t after, google::protobuf::RepeatedPtrField<Event>* events) const {
  for (const Event& event : events_) {
    if (event.number() > after) *events->Add() = event;
  }
}

}  // namespace lockstep
