#pragma once

#include <cstdint>

namespace lockstep {

// How operations are polled while somebody stands still for them.

// A poll that took longer moved data, and the next one will probably too: an idle one takes about 0.3 us an operation.
inline constexpr int64_t kBusyPollNanos = 4'000;

// Between two polls, the last `idle_polls` of which moved nothing. As short as can be: between ranks of one host an
// all-reduce of 1 KB takes a microsecond, and where ranks outnumber the cores the next one waits for this one's poll to
// end. Now and then the core is given away, without which such ranks would sit out each other's time slices.
void PauseBetweenPolls(int64_t idle_polls);

}  // namespace lockstep
