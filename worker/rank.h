#pragma once

#include <string>

namespace lockstep {

// The life of one rank of a run, from its first word to the coordinator at `coordinator` (host:port) to its last: joins,
// trains, leaves. The process ends here: exit code 0 after a stop that was obeyed, 2 without a token, 1 for anything
// else, with a line on standard error that says why. `argc` and `argv` are main's, for MPI.
[[noreturn]] void RunRank(const std::string& coordinator, int* argc, char*** argv);

}  // namespace lockstep
