#pragma once

#include <string>

#include "lockstep/control.pb.h"

namespace lockstep {

// What a run says of itself, as text. Pure; epochs are counted from 0 in messages and from 1 on the screen.

// One line without a line break, at most `columns` wide: the epoch, a bar over it, step, loss, samples/s, the epoch's
// ETA, exposed communication in % of the step. What does not fit is left out, the least telling first.
std::string ProgressBar(const StatusReply& status, int columns);

// One line without a line break, for a pipe or a log.
std::string EpochText(const EpochLine& epoch);
std::string EventText(const Event& event);

// The page of `lockstep status`, with a table of the workers: at most 100 columns but for long paths and reasons.
// Of more than 64 workers, the 64 that most need a look.
std::string StatusText(const StatusReply& status);
// The reply itself, field by field.
std::string StatusJson(const StatusReply& status);

}  // namespace lockstep
